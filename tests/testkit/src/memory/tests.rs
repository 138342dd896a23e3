//! The contract on the memory adapter, with and without delays.

use core::time::Duration;

use futures::executor::block_on;

use super::*;
use crate::{contract, sim::Sim};

macro_rules! on_memory {
    ($($suite:ident)*) => {
        /// As it is, on any executor.
        mod plain {
            use super::*;

            $(
                #[test]
                fn $suite() {
                    block_on(contract::$suite(&Memory::simple(contract::now())));
                }
            )*
        }

        /// With the smallest pages, slow answers, and an index that lags.
        mod unkind {
            use super::*;

            $(
                #[test]
                fn $suite() {
                    for seed in 0..2 {
                        let sim = Sim::new(seed);
                        sim.clock().advance_to(contract::now());
                        let memory = Memory::new(sim.clock(), sim.faults());
                        memory.cap_pages(Some(2));
                        memory.set_index_lag(Duration::from_millis(40));
                        memory.faults().set_latency(Duration::from_millis(3));
                        let ended = sim.block_on(async move { contract::$suite(&memory).await });
                        assert!(ended.is_some());
                    }
                }
            )*
        }
    };
}

crate::each_suite!(on_memory);
