//! The parts that the service is made of. Each owns one concern and borrows the ports that it works with.
//!
//! A part names the parts that it uses by importing them, so the imports of a file show which flows it can start. Parts form
//! layers: a part in `delivery` may use one in `log`, never the other way round.

use core::time::Duration;

use protocol::Timestamp;

use crate::{
    ports::{Environment, Fault},
    retry::{self, Retry},
};

/// The four ports, borrowed from a [`Service`](crate::Service).
pub(crate) struct Ports<'a, S, G, W, E> {
    pub(crate) store: &'a S,
    pub(crate) gateway: &'a G,
    pub(crate) workers: &'a W,
    pub(crate) environment: &'a E,
}

impl<S, G, W, E> Clone for Ports<'_, S, G, W, E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S, G, W, E> Copy for Ports<'_, S, G, W, E> {}

impl<S, G, W, E: Environment> Ports<'_, S, G, W, E> {
    /// Returns the time since `moment`, or zero if the clock that stamped it is ahead of this one.
    pub(crate) fn since(&self, moment: Timestamp) -> Duration {
        let millis = self.environment.now().millis() - moment.millis();
        Duration::from_millis(u64::try_from(millis).unwrap_or(0))
    }

    /// Waits before the next try under `policy`, or returns `fault` if the policy allows no more tries.
    ///
    /// A corrupt item stays corrupt, so it is never retried.
    pub(crate) async fn retry_or_give_up(
        &self,
        policy: Retry,
        attempt: &mut u32,
        salt: &str,
        fault: Fault,
    ) -> Result<(), Fault> {
        let pause = match fault {
            Fault::Corrupt(_) => None,
            _ => policy.pause(*attempt, salt),
        };
        let Some(pause) = pause else {
            return Err(fault);
        };
        self.environment.sleep(pause).await;
        *attempt += 1;
        Ok(())
    }

    /// The same under [`retry::STORE`], the policy of every write that is safe to repeat.
    pub(crate) async fn retry_store(
        &self,
        attempt: &mut u32,
        salt: &str,
        fault: Fault,
    ) -> Result<(), Fault> {
        self.retry_or_give_up(retry::STORE, attempt, salt, fault)
            .await
    }
}

/// Defines a part: a struct over borrowed ports, with the constructor `of`.
macro_rules! part {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        pub(crate) struct $name<'a, S, G, W, E> {
            pub(super) ports: $crate::parts::Ports<'a, S, G, W, E>,
        }

        impl<S, G, W, E> Clone for $name<'_, S, G, W, E> {
            fn clone(&self) -> Self {
                *self
            }
        }

        impl<S, G, W, E> Copy for $name<'_, S, G, W, E> {}

        impl<'a, S, G, W, E> $name<'a, S, G, W, E> {
            /// The part over `ports`.
            pub(crate) const fn of(ports: $crate::parts::Ports<'a, S, G, W, E>) -> Self {
                Self { ports }
            }
        }
    };
}

pub(crate) use part;
