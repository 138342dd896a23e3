//! The contract of the storage ports, for both adapters: in memory and over DynamoDB.

mod engine;

use core::{future::Future, time::Duration};

/// The time after which a test fails instead of hanging.
const DEADLINE: Duration = Duration::from_secs(60);

#[expect(clippy::expect_used, reason = "a failed test shows the line")]
async fn within(suite: impl Future<Output = ()>) {
    tokio::time::timeout(DEADLINE, suite)
        .await
        .expect("the suite does not end in time");
}

/// Makes a test of each suite. Each test has its own engine.
macro_rules! over_the_engine {
    ($faults:expr; $($suite:ident)*) => {
        $(
            #[tokio::test]
            async fn $suite() {
                let running = crate::engine::Running::start(&$faults, 1).await.unwrap();
                crate::within(testkit::contract::$suite(&running.store)).await;
                running.stop().await;
            }
        )*
    };
}

mod memory {
    use testkit::{contract, memory::Memory};

    macro_rules! over_memory {
        ($($suite:ident)*) => {
            $(
                #[tokio::test]
                async fn $suite() {
                    let memory = Memory::simple(contract::now());
                    crate::within(contract::$suite(&memory)).await;
                }
            )*
        };
    }

    testkit::each_suite!(over_memory);
}

mod dynamodb {
    macro_rules! undisturbed {
        ($($suite:ident)*) => { over_the_engine!([]; $($suite)*); };
    }

    testkit::each_suite!(undisturbed);
}

/// The store retries transaction conflicts itself, so its callers do not see them.
mod dynamodb_with_conflicts {
    use local_gateway::fault::{Fault, Kind};

    const CONFLICTS: Fault = Fault {
        kind: Kind::ConflictDynamodb,
        rate: 0.05,
    };

    macro_rules! disturbed {
        ($($suite:ident)*) => { over_the_engine!([CONFLICTS]; $($suite)*); };
    }

    testkit::each_suite!(disturbed);
}
