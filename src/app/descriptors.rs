//! File descriptors: every connection takes one, and so does every file that is read. Systems give a process few of them
//! to begin with (often 1024) and more to those that ask. Called once, before anything is opened.
//!
//! A server that is at its limit is not only closed to callers: it reads no new version, and nobody can ask what is wrong
//! with it. So connections get only what is left after what the server needs for itself.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that are no data connections: the ops listener's connections, event queues, the registry, load probes.
const OWN: u64 = 512;

/// Asks for as many descriptors as there may be, and gives the number of connections that there is room for: `asked`, or
/// fewer, with a warning, where the system's limit is too low.
pub(super) fn room_for(asked: usize) -> usize {
    let limit = raised();
    let connections = share(limit, asked);
    if connections < asked {
        let limit = limit.unwrap_or_default();
        tracing::warn!(
            limit,
            connections,
            "--max-connections {asked}: expected a limit of at least {} open files, got {limit}; fewer connections are taken",
            (asked as u64).saturating_add(OWN),
        );
    }
    connections
}

/// Raises the limit of this process to what it may be; gives the limit in force, none = no limit.
fn raised() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return limit.current;
    }
    let all = Rlimit { current: limit.maximum, ..limit };
    // Some systems call a limit infinite and refuse to be taken at their word.
    if setrlimit(Resource::Nofile, all).is_ok() { limit.maximum } else { limit.current }
}

/// The connections that a limit leaves room for: all but [`OWN`] of it, at least half.
fn share(limit: Option<u64>, asked: usize) -> usize {
    let Some(limit) = limit else { return asked };
    let room = limit - OWN.min(limit / 2);
    usize::try_from(room).map_or(asked, |room| asked.min(room.max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_get_what_the_server_does_not_need() {
        let cases = [
            (None, 10_000, 10_000),
            (Some(u64::MAX), 10_000, 10_000),
            (Some(10_512), 10_000, 10_000),
            (Some(10_511), 10_000, 9_999),
            (Some(1_024), 10_000, 512),
            (Some(1_024), 100, 100),
            (Some(64), 10_000, 32),
            (Some(0), 10_000, 1),
        ];
        for (limit, asked, want) in cases {
            assert_eq!(share(limit, asked), want, "{limit:?} {asked}");
        }
    }

    #[test]
    fn the_limit_is_as_high_as_it_may_be_afterwards() {
        let (before, limit) = (getrlimit(Resource::Nofile), raised());
        let now = getrlimit(Resource::Nofile);
        assert_eq!((now.current, now.maximum), (limit, before.maximum));
        assert!(limit >= before.current || limit.is_none());
    }
}
