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

pub(super) struct Book(Vec<State>);

impl Book {
    pub(super) fn new(terms: &[Terms]) -> Self {
        Self(vec![State::Closed; terms.len()])
    }
}

impl Law for Book {
    fn see(&mut self, event: &Event, _world: &World) {
        match event {
            Event::Asked { reader } if self.0[*reader] == State::Closed => {
                self.0[*reader] = State::Asked;
            }
            Event::Opened { reader } => self.0[*reader] = State::Open,
            Event::Ending { reader } => self.0[*reader] = State::Ending,
            Event::Ended { reader } if self.0[*reader] == State::Ending => {
                self.0[*reader] = State::Closed;
            }
            Event::Restarted => {
                for state in &mut self.0 {
                    if matches!(state, State::Asked | State::Ending) {
                        *state = State::Unsure;
                    }
                }
            }
            Event::Delivered { reader, message } => {
                let state = self.0[*reader];
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
