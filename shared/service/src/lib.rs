//! Ports, and the one loop that reads, decides, commits and sends.

pub mod ports;
