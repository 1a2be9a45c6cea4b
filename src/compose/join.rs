//! Several futures of one request, driven by the task that waits for them: branches of a switch, members of an ensemble, arms of
//! a split by rows. No task is spawned, so a caller that leaves takes all of them along.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::Poll,
};

/// A branch of a request.
pub(super) type Branch<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Drives all branches until `enough` is true of what has come so far, or all have ended. What had not ended is `None`.
pub(super) async fn join_until<T>(
    branches: Vec<Branch<'_, T>>,
    mut enough: impl FnMut(&[Option<T>]) -> bool,
) -> Vec<Option<T>> {
    let mut branches: Vec<Option<Branch<'_, T>>> = branches.into_iter().map(Some).collect();
    let mut ended: Vec<Option<T>> = branches.iter().map(|_| None).collect();
    poll_fn(|context| {
        for (branch, slot) in branches.iter_mut().zip(&mut ended) {
            if let Some(running) = branch
                && let Poll::Ready(result) = running.as_mut().poll(context)
            {
                *slot = Some(result);
                *branch = None;
            }
        }
        let over = branches.iter().all(Option::is_none);
        if over || enough(&ended) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    ended
}

/// Drives all branches to their end, or to the first error.
///
/// # Errors
/// The first error that came; the other branches are dropped.
pub(super) async fn try_join<T, E>(branches: Vec<Branch<'_, Result<T, E>>>) -> Result<Vec<T>, E> {
    let failed = |ended: &[Option<Result<T, E>>]| ended.iter().any(|result| matches!(result, Some(Err(_))));
    let ended = join_until(branches, failed).await;
    let (mut good, mut bad) = (Vec::with_capacity(ended.len()), None);
    for result in ended.into_iter().flatten() {
        match result {
            Ok(value) => good.push(value),
            Err(error) => bad = bad.or(Some(error)),
        }
    }
    bad.map_or(Ok(good), Err)
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    fn branch<'a, T>(future: impl Future<Output = T> + Send + 'a) -> Branch<'a, T> {
        Box::pin(future)
    }

    #[tokio::test]
    async fn all_results_in_order() {
        let (send, receive) = oneshot::channel();
        let first = branch(async move { receive.await.map_err(|_| "gone") });
        let second = branch(async move {
            send.send(1).unwrap();
            Ok(2)
        });
        assert_eq!(try_join(vec![first, second]).await, Ok(vec![1, 2]));
    }

    #[tokio::test]
    async fn the_first_error_ends_it() {
        let stuck = branch(std::future::pending::<Result<(), &str>>());
        let failing = branch(async { Err("broken") });
        assert_eq!(try_join(vec![stuck, failing]).await, Err("broken"));
    }

    #[tokio::test]
    async fn what_is_enough_is_enough() {
        let stuck = branch(std::future::pending::<i32>());
        let quick = branch(async { 7 });
        let ended = join_until(vec![stuck, quick], |ended| ended.iter().flatten().count() == 1).await;
        assert_eq!(ended, [None, Some(7)]);
    }
}
