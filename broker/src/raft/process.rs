//! Where a member's tasks are started.
//!
//! In a simulated world many members share a thread, and each must be able to stand still or to die as a process does:
//! at any point, with nothing of it running on. So there each task belongs to the `Process` it was started in, and
//! is polled only while that runs. Programs are built without that; their tasks are Tokio's as they are.

use std::future::Future;
use tokio::task::JoinHandle;

/// Starts a task of the process that this is called in.
pub(super) fn spawn<F>(task: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    #[cfg(any(test, feature = "faults"))]
    if let Some(process) = simulated::current() {
        return process.spawn(task);
    }
    tokio::spawn(task)
}

#[cfg(any(test, feature = "faults"))]
pub use simulated::{Process, panicked, polls};

#[cfg(any(test, feature = "faults"))]
mod simulated {
    use std::any::Any;
    use std::cell::{Cell, RefCell};
    use std::future::Future;
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
    use std::pin::Pin;
    use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
    use std::task::{Context, Poll, Waker};
    use tokio::task::JoinHandle;

    thread_local! {
        static CURRENT: RefCell<Option<Process>> = const { RefCell::new(None) };
        static POLLS: Cell<u64> = const { Cell::new(0) };
        static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
    }

    /// A simulated process: what is started in it ends with it. Clones are the same one.
    #[derive(Clone, Debug, Default)]
    pub struct Process(Arc<Mutex<State>>);

    #[derive(Debug, Default)]
    struct State {
        is_over: bool,
        stands_still: bool,
        /// Tasks that were to be polled meanwhile.
        waiting: Vec<Waker>,
    }

    /// How often tasks of simulated processes were polled on this thread, ever.
    pub fn polls() -> u64 {
        POLLS.get()
    }

    /// What the first task of a simulated process on this thread said that panicked since this was last asked.
    pub fn panicked() -> Option<String> {
        PANIC.take()
    }

    fn note_panic(panic: &(dyn Any + Send)) {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        let text = text.unwrap_or("a panic without a text").to_owned();
        PANIC.with_borrow_mut(|first| {
            first.get_or_insert(text);
        });
    }

    pub(super) fn current() -> Option<Process> {
        CURRENT.with_borrow(Clone::clone)
    }

    impl Process {
        fn lock(&self) -> MutexGuard<'_, State> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }

        /// Does something in the process: tasks that it starts are the process's.
        pub fn run<R>(&self, what: impl FnOnce() -> R) -> R {
            let before = CURRENT.replace(Some(self.clone()));
            let result = catch_unwind(AssertUnwindSafe(what));
            CURRENT.set(before);
            result.unwrap_or_else(|panic| {
                // Tokio would keep that of a task to itself.
                note_panic(&*panic);
                resume_unwind(panic)
            })
        }

        /// Starts a task of the process.
        pub fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
        where
            F: Future + Send + 'static,
            F::Output: Send + 'static,
        {
            tokio::spawn(Gate {
                process: self.clone(),
                task: Some(Box::pin(task)),
            })
        }

        /// The process is gone; nothing of it happens any more.
        pub fn kill(&self) {
            self.lock().is_over = true;
        }

        /// The process stands still from now on, or goes on.
        pub fn pause(&self, stands_still: bool) {
            let mut state = self.lock();
            state.stands_still = stands_still;
            if !stands_still {
                state.waiting.drain(..).for_each(Waker::wake);
            }
        }
    }

    /// A task of a process.
    struct Gate<F> {
        process: Process,
        task: Option<Pin<Box<F>>>,
    }

    impl<F: Future> Future for Gate<F> {
        type Output = F::Output;

        fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
            let this = self.get_mut();
            {
                let mut state = this.process.lock();
                if state.is_over {
                    drop(state);
                    this.task = None;
                    return Poll::Pending;
                }
                if state.stands_still {
                    state.waiting.push(context.waker().clone());
                    return Poll::Pending;
                }
            }
            let Some(task) = &mut this.task else {
                return Poll::Pending;
            };
            POLLS.set(POLLS.get() + 1);
            let process = this.process.clone();
            process.run(|| task.as_mut().poll(context))
        }
    }
}
