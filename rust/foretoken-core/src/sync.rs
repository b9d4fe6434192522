//! What threads share state with: the standard library; in models (`models.rs`) that of loom, which tries every order in which
//! threads can run.

#[cfg(not(all(test, loom)))]
mod real {
    pub use std::hint::spin_loop;
    pub use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    pub use std::sync::{Arc, Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard};
    pub use std::thread;
    pub use std::time::Instant;

    /// A number of the calling thread, in the order in which threads first asked.
    pub fn thread_number() -> usize {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static THREAD: usize = THREADS.fetch_add(1, Ordering::Relaxed);
        }
        THREAD.with(|&thread| thread)
    }
}

#[cfg(all(test, loom))]
mod model {
    use std::time::Duration;

    pub use loom::hint::spin_loop;
    pub use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    pub use loom::sync::{Arc, Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard};
    pub use loom::thread;

    /// A clock that has always gone on by a second: who has less patience looks once, others for ever.
    pub struct Instant;

    impl Instant {
        pub fn now() -> Self {
            Self
        }

        #[allow(clippy::unused_self)]
        pub fn elapsed(&self) -> Duration {
            Duration::from_secs(1)
        }
    }

    loom::lazy_static! {
        static ref THREADS: AtomicUsize = AtomicUsize::new(0);
    }

    loom::thread_local! {
        static THREAD: usize = THREADS.fetch_add(1, Ordering::Relaxed);
    }

    pub fn thread_number() -> usize {
        THREAD.with(|&thread| thread)
    }
}

#[cfg(all(test, loom))]
pub(crate) use model::*;
#[cfg(not(all(test, loom)))]
pub(crate) use real::*;
