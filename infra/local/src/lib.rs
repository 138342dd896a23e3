//! The local gateway: API Gateway, Lambda and DynamoDB of one template, on one machine.

pub mod build;
pub mod dynamodb;
pub mod fault;
pub mod lambda;
pub mod schedule;
pub mod template;
