//! The command line.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::Parser;

use crate::fault::{Fault, Kind};

/// The template of what SockJS's suite needs.
const SUITE: &str = "tests/sockjs/template.yaml";

/// What the help says after the options.
const AFTER: &str = "\
EXAMPLES
  Run the template of this folder, with everything in memory:
      local-gateway
  Keep the tables between runs, and use ports that are free:
      local-gateway --data .local --port 0
  Run ready-made functions with some trouble, the same trouble each time:
      local-gateway --functions target/debug --fault throttle-post=0.1 --seed 7
  Let connections go idle after 6 seconds instead of 10 minutes:
      local-gateway --clock-scale 100

WHAT IS WHERE
The public port (--port) has the console page at /, the HTTP API under /v1/ and, for everything else, the template's \
CloudFront distribution: SockJS at /messaging, the raw WebSocket at /messaging/websocket. A template without a distribution \
has the raw WebSocket there all the same, and its HTTP API may have routes beside /v1/: they come first, but for $default \
and /{proxy+}, which come last. The port's /metrics are what the \
functions measured, for Prometheus. The WebSocket API's own port has ws://…/<stage> and <stage>/@connections, as on AWS. \
DynamoDB and Lambda have ports of their own, and the AWS CLI works with them:
      aws dynamodb list-tables --endpoint-url http://127.0.0.1:8083

WHAT DIFFERS FROM AWS
Signatures are not checked, but what a function may do is: its Policies hold as on AWS (without any it may do nothing, \
with a Role everything), and /_local/rights of Lambda's port lists what was done. A failed asynchronous invocation is repeated twice as on AWS, but after --retry-delay \
instead of one and two minutes. Secondary indexes are up to date at once, and a ClientRequestToken of a transaction is not \
remembered: a repeat is applied again, or fails its conditions. There is no TLS: a function finds @connections by the \
address that the template writes into its variables (CONNECTIONS_ENDPOINT in this one), which is replaced by the local one, \
not at https://${requestContext.domainName}/${stage}.";

/// Runs a WebSocket API, an HTTP API, their functions and tables on this machine, from the template that deploys them.
///
/// It stands in for API Gateway, Lambda and DynamoDB faithfully enough that a function cannot tell. It builds the
/// functions with cargo, runs them over the real Lambda Runtime API, and stops everything on Ctrl-C.
#[derive(Clone, Debug, Parser)]
#[command(name = "local-gateway", version, after_help = AFTER, after_long_help = AFTER)]
pub struct Options {
    /// The template; found in this folder or one above it
    #[arg(long, value_name = "FILE", default_value = "template.yaml")]
    pub template: PathBuf,

    /// A parameter of the template, instead of its default
    #[arg(long = "parameter", value_name = "NAME=VALUE", value_parser = name_and_value)]
    pub parameters: Vec<(String, String)>,

    /// Ready-made functions, `DIR/BINARY` or `DIR/BINARY/bootstrap`, instead of building them. A function runs in the folder of its
    /// executable, which is $LAMBDA_TASK_ROOT
    #[arg(long, value_name = "DIR", conflicts_with = "release")]
    pub functions: Option<PathBuf>,

    /// Build the functions optimised (profile `local`)
    #[arg(long)]
    pub release: bool,

    /// Keep the tables in this folder; without it they are in memory
    #[arg(long, value_name = "DIR", conflicts_with = "dynamodb_endpoint")]
    pub data: Option<PathBuf>,

    /// Use the DynamoDB at this URL, which has the template's tables, instead of the embedded one; no faults of DynamoDB's then
    #[arg(long, value_name = "URL")]
    pub dynamodb_endpoint: Option<String>,

    /// The public port; 0 picks free ports for everything
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    pub port: u16,

    /// The address of the public port. The HTTP API is open: beyond loopback everybody who reaches it can use it
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    pub host: IpAddr,

    /// The port of the WebSocket API itself and its @connections [default: public port + 1]
    #[arg(long, value_name = "PORT")]
    pub websocket_port: Option<u16>,

    /// The port of Lambda's Invoke API [default: public port + 2]
    #[arg(long, value_name = "PORT")]
    pub lambda_port: Option<u16>,

    /// The port of DynamoDB [default: public port + 3]
    #[arg(long, value_name = "PORT", conflicts_with = "dynamodb_endpoint")]
    pub dynamodb_port: Option<u16>,

    /// When everything can serve, write its URLs as JSON to this file; it is removed at the start and at the end
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,

    /// Let this go wrong now and then; RATE is from 0 (never) to 1 (always). Can be repeated
    #[arg(long = "fault", value_name = "KIND=RATE", long_help = fault_help())]
    pub faults: Vec<Fault>,

    /// The seed of the faults: the same one gives the same
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,

    /// How much faster the limits of connections pass: 10 minutes idle, 2 hours in all
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = factor)]
    pub clock_scale: f64,

    /// Dispatch the messages of a connection one after the other; AWS does not
    #[arg(long)]
    pub in_order: bool,

    /// The most instances of one function; further invocations wait, and once a function's have waited for a second it is said
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = at_least_one)]
    pub max_instances: usize,

    /// How many invocations a process of a function has at once, if it asks for them as for Lambda's managed instances: under
    /// load far fewer processes, which end together. On Lambda, and without this, it has one
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = managed)]
    pub concurrency: usize,

    /// Seconds before a failed asynchronous invocation is repeated (AWS: 60, then 120)
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0, value_parser = seconds)]
    pub retry_delay: f64,

    /// Run the places that SockJS's published protocol suite needs (/echo, /close, /disabled_websocket_echo and
    /// /cookie_needed_echo, from tests/sockjs/template.yaml) instead of the service, with --tell-leaving and with reasons for
    /// closes, which API Gateway cannot give. Point the suite at it by SOCKJS_URL, without a path
    #[arg(long, conflicts_with = "template")]
    pub sockjs_conformance: bool,

    /// Tell a function that the client of its streamed answer left, by ending the connection it answers on; Lambda does not
    #[arg(long)]
    pub tell_leaving: bool,

    /// Show all lines that functions write, not only errors
    #[arg(short, long)]
    pub verbose: bool,
}

impl Options {
    /// The template to run.
    #[must_use]
    pub fn template(&self) -> &Path {
        if self.sockjs_conformance {
            Path::new(SUITE)
        } else {
            &self.template
        }
    }

    /// Whether a function is told that the client of its streamed answer left.
    #[must_use]
    pub fn tells_leaving(&self) -> bool {
        self.tell_leaving || self.sockjs_conformance
    }

    /// The port for something beside the public one: chosen, free, or `offset` above the public one.
    #[must_use]
    pub fn beside(&self, chosen: Option<u16>, offset: u16) -> u16 {
        match (chosen, self.port) {
            (Some(port), _) => port,
            (None, 0) => 0,
            // Above the last port there is only the choice of the system.
            (None, port) => port.checked_add(offset).unwrap_or(0),
        }
    }

    /// The wait before a failed asynchronous invocation is repeated.
    #[must_use]
    pub fn retry_delay(&self) -> Duration {
        Duration::from_secs_f64(self.retry_delay)
    }
}

/// Every fault with what it does.
fn fault_help() -> String {
    let mut help =
        "Let this go wrong now and then; RATE is from 0 (never) to 1 (always). Can be repeated.\n"
            .to_owned();
    for kind in Kind::ALL {
        help.push_str(&format!("\n  {:<20} {}", kind.name(), kind.help()));
    }
    help
}

fn name_and_value(text: &str) -> Result<(String, String), &'static str> {
    let (name, value) = text.split_once('=').ok_or("write it as NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn factor(text: &str) -> Result<f64, &'static str> {
    within(0.001..=1e6, text).ok_or("it is a number from 0.001 to 1000000")
}

fn seconds(text: &str) -> Result<f64, &'static str> {
    within(0.0..=3600.0, text).ok_or("it is a number from 0 to 3600")
}

/// Lambda's own limit for a managed instance is 1,600 (docs.aws.amazon.com/lambda, 2026-08).
fn managed(text: &str) -> Result<usize, &'static str> {
    within(1..=1600, text).ok_or("it is a number from 1 to 1600")
}

fn within<T: FromStr + PartialOrd>(range: RangeInclusive<T>, text: &str) -> Option<T> {
    text.parse().ok().filter(|number| range.contains(number))
}

fn at_least_one(text: &str) -> Result<usize, &'static str> {
    let number = text.parse().ok().filter(|number| *number > 0);
    number.ok_or("it is a number from 1")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(arguments: &[&str]) -> Result<Options, clap::Error> {
        Options::try_parse_from([&["local-gateway"], arguments].concat())
    }

    #[test]
    fn the_command_line_is_consistent_and_its_help_lists_every_fault() {
        let mut command = Options::command();
        command.clone().debug_assert();
        let help = command.render_long_help().to_string();
        for kind in Kind::ALL {
            assert!(help.contains(kind.name()), "{}", kind.name());
        }
    }

    #[test]
    fn the_help_names_what_a_function_could_stumble_over() {
        let help = Options::command().render_long_help().to_string();
        let (_, differs) = help.split_once("WHAT DIFFERS FROM AWS").unwrap();
        for name in ["ClientRequestToken", "requestContext.domainName"] {
            assert!(differs.contains(name), "{name}");
        }
    }

    #[test]
    fn ports_follow_the_public_one_unless_chosen() {
        let options = parse(&["--port", "9000"]).unwrap();
        assert_eq!(options.beside(options.lambda_port, 2), 9002);
        let options = parse(&["--port", "0", "--lambda-port", "7"]).unwrap();
        assert_eq!(options.beside(options.lambda_port, 2), 7);
        assert_eq!(options.beside(options.dynamodb_port, 3), 0);
        let options = parse(&["--port", "65535"]).unwrap();
        assert_eq!(options.beside(None, 1), 0);
    }

    #[test]
    fn the_suite_has_a_template_of_its_own() {
        let options = parse(&["--sockjs-conformance"]).unwrap();
        assert!(options.tells_leaving());
        assert_eq!(options.template(), Path::new("tests/sockjs/template.yaml"));
        let options = parse(&[]).unwrap();
        assert!(!options.tells_leaving());
        assert_eq!(options.template(), Path::new("template.yaml"));
        assert!(parse(&["--sockjs-conformance", "--template", "x"]).is_err());
    }

    #[test]
    fn what_is_for_the_embedded_database_is_refused_beside_another() {
        let other = ["--dynamodb-endpoint", "http://127.0.0.1:8000"];
        for own in [["--dynamodb-port", "8000"], ["--data", "folder"]] {
            let refusal = parse(&[other, own].concat()).unwrap_err().to_string();
            for name in [other[0], own[0]] {
                assert!(refusal.contains(name), "{refusal}");
            }
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for arguments in [
            ["--fault", "nonsense=1"],
            ["--fault", "throttle-post=2"],
            ["--clock-scale", "0"],
            ["--clock-scale", "NaN"],
            ["--retry-delay", "-1"],
            ["--max-instances", "0"],
            ["--concurrency", "0"],
            ["--concurrency", "1601"],
            ["--parameter", "StageName"],
        ] {
            assert!(parse(&arguments).is_err(), "{arguments:?}");
        }
    }
}
