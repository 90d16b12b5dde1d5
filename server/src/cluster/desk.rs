//! What a node has to do about something that all nodes know together and the engine keeps: what to write, and whether to read.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

/// Where the parts of a node lay down what is to be done, for the task that does it.
pub(super) struct Desk<W> {
    todo: Mutex<Todo<W>>,
    most: usize,
    wake: Notify,
}

/// What is to be done.
pub(super) struct Todo<W> {
    /// What this node has said, the oldest first.
    pub(super) words: VecDeque<W>,
    /// The engine may know something new.
    pub(super) read: bool,
    /// The engine may know less than this node: all is to be said again.
    pub(super) again: bool,
}

impl<W> Default for Todo<W> {
    fn default() -> Self {
        Self {
            words: VecDeque::new(),
            read: false,
            again: false,
        }
    }
}

impl<W> Desk<W> {
    /// `most`: so many words wait; with more, all that is known is said again.
    pub(super) fn new(most: usize) -> Self {
        Self {
            todo: Mutex::default(),
            most,
            wake: Notify::new(),
        }
    }

    fn todo(&self) -> MutexGuard<'_, Todo<W>> {
        self.todo.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Todo<W>)) {
        let mut todo = self.todo();
        change(&mut todo);
        let beyond = todo.words.len().saturating_sub(self.most);
        todo.words.drain(..beyond);
        // What is forgotten is said with all else that is known here.
        todo.again |= beyond > 0;
        drop(todo);
        self.wake.notify_one();
    }

    /// This node has said something.
    pub(super) fn say(&self, word: W) {
        self.change(|todo| todo.words.push_back(word));
    }

    /// The engine may know something new.
    pub(super) fn read(&self) {
        self.change(|todo| todo.read = true);
    }

    /// The engine has been away, or has lost what it knew.
    pub(super) fn say_again(&self) {
        self.change(|todo| todo.again = true);
    }

    /// To be done after all; what it says, before what has come since.
    pub(super) fn put_back(&self, done: Todo<W>) {
        self.change(|todo| {
            let since = std::mem::replace(&mut todo.words, done.words);
            todo.words.extend(since);
            todo.read |= done.read;
            todo.again |= done.again;
        });
    }

    /// Until there is something new to do.
    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// What is to be done: it is no longer here.
    pub(super) fn take(&self) -> Todo<W> {
        std::mem::take(&mut *self.todo())
    }
}

impl<W> Todo<W> {
    pub(super) fn is_nothing(&self) -> bool {
        self.words.is_empty() && !self.read && !self.again
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_done_comes_before_what_has_come_since_and_does_not_grow() {
        let desk = Desk::new(3);
        (1..=2).for_each(|word| desk.say(word));
        desk.read();
        let todo = desk.take();
        assert!(desk.take().is_nothing());
        desk.say(3);
        desk.put_back(todo);
        let todo = desk.take();
        assert_eq!(todo.words, [1, 2, 3]);
        assert!(todo.read && !todo.again);
        desk.say(4);
        desk.put_back(todo);
        let todo = desk.take();
        assert_eq!(todo.words, [2, 3, 4]);
        assert!(todo.read && todo.again, "1 is said with all else");
    }
}
