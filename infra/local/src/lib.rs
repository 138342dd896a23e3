//! The local gateway: runs API Gateway, Lambda and DynamoDB of one template on one machine.

pub mod body;
pub mod build;
pub mod cli;
pub mod distribution;
pub mod dynamodb;
pub mod edge;
pub mod fault;
pub mod function_url;
pub mod gateway;
pub mod guard;
pub mod http_api;
pub mod ids;
pub mod lambda;
mod listen;
pub mod management;
pub mod metrics;
pub mod query;
pub mod ready;
pub mod rights;
pub mod schedule;
pub mod server;
pub mod signals;
pub mod template;
pub mod websocket;
