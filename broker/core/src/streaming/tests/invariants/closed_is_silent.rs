//! Nothing is delivered to a subscription that has ended, or that has not been accepted.

use super::{Event, Law, Terms, World};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    Asked,
    Open,
    Ending,
    /// The server died before it had said what is durable.
    Unsure,
}

pub(super) struct Book {
    terms: Vec<Terms>,
    /// By reader.
    states: Vec<State>,
}

impl Book {
    pub(super) fn new(terms: &[Terms]) -> Self {
        Self {
            terms: terms.to_vec(),
            states: vec![State::Closed; terms.len()],
        }
    }
}

impl Law for Book {
    fn see(&mut self, event: &Event, _world: &World) {
        match event {
            Event::Asked { reader } if self.states[*reader] == State::Closed => {
                self.states[*reader] = State::Asked;
            }
            Event::Opened { reader } => self.states[*reader] = State::Open,
            Event::Ending { reader } => self.states[*reader] = State::Ending,
            Event::Ended { reader } if self.states[*reader] == State::Ending => {
                self.states[*reader] = State::Closed;
            }
            // With its channel everything goes that the server may have thought of a subscription.
            Event::Deleted { channel } => {
                for (terms, state) in self.terms.iter().zip(&mut self.states) {
                    if terms.channel == *channel {
                        *state = State::Closed;
                    }
                }
            }
            Event::Restarted => {
                for state in &mut self.states {
                    if matches!(state, State::Asked | State::Ending) {
                        *state = State::Unsure;
                    }
                }
            }
            Event::Delivered { reader, message } => {
                let state = self.states[*reader];
                assert!(
                    matches!(state, State::Open | State::Unsure),
                    "{} came to {reader}, which is {state:?}",
                    message.sequence
                );
            }
            _ => {}
        }
    }
}
