//! Finds out that files may have changed: directory events where the system gives them, and a look
//! every few seconds in any case.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::Duration};

use notify::{
    EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode},
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{ReloadError, Reloaded};
use crate::causes;

/// Time between two looks when no event arrives; the bound on how stale a configuration can be.
const POLL: Duration = Duration::from_secs(5);
/// Events of one change come in a burst; one look after it is enough.
const SETTLE: Duration = Duration::from_millis(20);

/// Calls `reload` on every sign of change until `token` is cancelled. A failure is logged once, and
/// again when it becomes a different one. `paths` are asked for again at every look.
pub(super) async fn watch<P, F>(paths: P, token: CancellationToken, reload: F)
where
    P: Fn() -> Vec<PathBuf>,
    F: Fn() -> Result<Reloaded, ReloadError> + Send + Sync + 'static,
{
    let reload = Arc::new(reload);
    let changed = Arc::new(Notify::new());
    let mut watched = directories(&paths());
    let mut _watcher = directory_events(&watched, &changed);
    // The files may have changed between their first reading and the start of the watch.
    changed.notify_one();
    let mut last_failure = String::new();
    loop {
        tokio::select! {
            () = token.cancelled() => return,
            () = changed.notified() => tokio::time::sleep(SETTLE).await,
            () = tokio::time::sleep(POLL) => {}
        }
        let directories = directories(&paths());
        if directories != watched {
            _watcher = directory_events(&directories, &changed);
            watched = directories;
        }
        let look = Arc::clone(&reload);
        // Reading and parsing is blocking work of perhaps a millisecond, too long for a data path.
        let outcome = match tokio::task::spawn_blocking(move || look()).await {
            Ok(outcome) => outcome,
            Err(error) => {
                tracing::error!(%error, "reloading certificates panicked");
                continue;
            }
        };
        match outcome {
            Ok(Reloaded {
                changed,
                serial_hex,
            }) => {
                last_failure.clear();
                if changed {
                    tracing::info!(serial = serial_hex, "certificates reloaded");
                }
            }
            Err(error) => {
                let text = causes::one_line(&error);
                if text != last_failure {
                    tracing::warn!(
                        error = text,
                        "certificates not reloaded, keeping the old ones"
                    );
                    last_failure = text;
                }
            }
        }
    }
}

fn is_reading(event: EventKind) -> bool {
    event.is_access() && event != EventKind::Access(AccessKind::Close(AccessMode::Write))
}

fn directories(paths: &[PathBuf]) -> BTreeSet<PathBuf> {
    let directory = |path: &PathBuf| match path.parent()? {
        // Of a bare file name.
        parent if parent.as_os_str().is_empty() => Some(PathBuf::from(".")),
        parent => Some(parent.to_owned()),
    };
    paths.iter().filter_map(directory).collect()
}

/// Watches `directories`. Without inotify there is polling only, which is said.
fn directory_events(
    directories: &BTreeSet<PathBuf>,
    changed: &Arc<Notify>,
) -> Option<RecommendedWatcher> {
    let notify = Arc::clone(changed);
    let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Our own reading makes events too; answering those would never end.
        if !event.is_ok_and(|event| is_reading(event.kind)) {
            notify.notify_one();
        }
    });
    let mut watcher = match watcher {
        Ok(watcher) => watcher,
        Err(error) => {
            tracing::warn!(%error, "no file events, certificates are looked at every 5 s only");
            return None;
        }
    };
    for directory in directories {
        if let Err(error) = watcher.watch(directory, RecursiveMode::NonRecursive) {
            tracing::warn!(directory = %directory.display(), %error,
                "no file events for the directory, it is looked at every 5 s only");
        }
    }
    Some(watcher)
}
