//! Questions from other threads (monitoring, metrics) to the streaming side on worker 0.

use std::rc::Rc;

use tokio::sync::{mpsc, oneshot};

use super::driver::Shared;

/// Questions that may wait. Monitoring asks a few a second; whoever comes when it is full waits.
const CAPACITY: usize = 64;

/// Answered on worker 0 between read passes, so it must be quick.
type Question = Box<dyn FnOnce(&Shared) + Send>;

/// Asks; cheap to clone, for any thread.
#[derive(Clone, Debug)]
pub(crate) struct QueryHandle {
    questions: mpsc::Sender<Question>,
}

/// Answers; belongs to worker 0.
#[derive(Debug)]
pub(crate) struct QueryDesk {
    questions: mpsc::Receiver<Question>,
}

/// A handle and the desk that answers it.
pub(crate) fn query() -> (QueryHandle, QueryDesk) {
    let (sender, receiver) = mpsc::channel(CAPACITY);
    (
        QueryHandle { questions: sender },
        QueryDesk {
            questions: receiver,
        },
    )
}

impl QueryHandle {
    /// None: the streaming side has ended. Cancel-safe; the question may be answered all the same.
    pub(crate) async fn ask<R: Send + 'static>(
        &self,
        question: impl FnOnce(&Shared) -> R + Send + 'static,
    ) -> Option<R> {
        let (answer, answered) = oneshot::channel();
        let question: Question = Box::new(move |shared| {
            // Nobody waits any more: fine.
            let _ = answer.send(question(shared));
        });
        self.questions.send(question).await.ok()?;
        answered.await.ok()
    }
}

impl QueryDesk {
    /// Answers until all handles are gone.
    pub(crate) async fn answer(mut self, shared: Rc<Shared>) {
        while let Some(question) = self.questions.recv().await {
            question(&shared);
        }
    }
}
