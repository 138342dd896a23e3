//! Dev only: the ports in memory, with faults, a virtual clock and a seeded executor. Also the contract that every
//! adapter of the storage ports keeps.

pub mod clock;
pub mod contract;
pub mod fault;
pub mod jobs;
pub mod memory;
pub mod quota;
pub mod random;
pub mod sim;
pub mod sockets;
pub mod surroundings;
