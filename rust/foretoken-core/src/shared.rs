//! A value that many threads read and few change, where readers do not slow each other down.
//!
//! A lock that all readers take is one number that all of them write: two readers of a `RwLock` were no faster than one, for a
//! look-up takes little longer than that number takes from core to core. Here each thread has a lock of its own (or shares it with
//! few), and who changes the value takes them all.

use std::sync::{PoisonError, TryLockError};

use crate::sync::{Arc, RwLock, RwLockReadGuard, thread_number};

/// Two show a model all there is to see.
const SHARDS: usize = if cfg!(all(test, loom)) { 2 } else { 16 };

/// As far apart as processors fetch memory: two lines of 64 bytes.
#[derive(Debug)]
#[repr(align(128))]
struct Shard<T>(RwLock<Arc<T>>);

#[derive(Debug)]
pub(crate) struct Shared<T> {
    /// All hold the same value, which no one else holds.
    shards: [Shard<T>; SHARDS],
    /// What they hold while it is being changed.
    vacant: Arc<T>,
}

pub(crate) type Read<'a, T> = RwLockReadGuard<'a, Arc<T>>;

impl<T> Shared<T> {
    pub fn new(value: T, vacant: T) -> Self {
        let value = Arc::new(value);
        Self { shards: std::array::from_fn(|_| Shard(RwLock::new(Arc::clone(&value)))), vacant: Arc::new(vacant) }
    }

    /// The value, once it is not being changed.
    pub fn read(&self) -> Read<'_, T> {
        self.shard().read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The value, unless it is being changed.
    pub fn try_read(&self) -> Option<Read<'_, T>> {
        match self.shard().try_read() {
            Ok(value) => Some(value),
            Err(TryLockError::Poisoned(value)) => Some(value.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Changes the value when no one reads it. If that panics, it is lost.
    pub fn write<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        // Always in the same order, so that two who write cannot wait for each other.
        let mut held = self.shards.each_ref().map(|shard| shard.0.write().unwrap_or_else(PoisonError::into_inner));
        let (first, others) = held.split_at_mut(1);
        for other in &mut *others {
            **other = Arc::clone(&self.vacant);
        }
        let value = Arc::get_mut(&mut first[0]);
        let changed = change(value.expect("readers hold locks, never the value"));
        for other in others {
            **other = Arc::clone(&first[0]);
        }
        changed
    }

    fn shard(&self) -> &RwLock<Arc<T>> {
        &self.shards[thread_number() % SHARDS].0
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn every_shard_sees_every_change() {
        let shared = Shared::new(0, -1);
        let threads = 2 * SHARDS as i32;
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let before = **shared.read();
                        shared.write(|value| *value += 1);
                        assert!(**shared.read() > before);
                        assert!(shared.try_read().is_none_or(|value| **value > before));
                    }
                });
            }
        });
        assert_eq!(**shared.read(), 50 * threads);
    }

    #[test]
    fn a_look_does_not_wait_for_a_change() {
        let shared = Shared::new(1, 0);
        shared.write(|_| assert!(shared.try_read().is_none()));
        assert_eq!(shared.try_read().map(|value| **value), Some(1));
    }
}
