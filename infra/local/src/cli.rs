//! The command line.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::Parser;
use http::{HeaderValue, Uri};

use crate::fault::{Fault, Kind};

/// The template that SockJS's protocol suite needs.
const SUITE: &str = "tests/sockjs/template.yaml";

/// The help text after the options.
const AFTER: &str = "\
EXAMPLES
  Run the template of this folder, with everything in memory:
      local-gateway
  Keep the tables between runs, and use ports that are free:
      local-gateway --data .local --port 0
  Run ready-made functions with faults, the same faults each time:
      local-gateway --functions target/debug --fault throttle-post=0.1 --seed 7
  Let connections go idle after 6 seconds instead of 10 minutes:
      local-gateway --clock-scale 100

PORTS AND PATHS
The public port (--port) serves the console page at / and the HTTP API under /v1/. The template's CloudFront distribution serves \
every other path: SockJS at /messaging, the raw WebSocket at /messaging/websocket. Without a distribution, the raw WebSocket has \
the same path, and the HTTP API may have routes outside /v1/. Those routes take precedence, except $default and /{proxy+}, which \
come last. The functions' metrics are at /metrics, for Prometheus. \
The WebSocket API's own port serves ws://…/<stage> and <stage>/@connections, as on AWS. \
DynamoDB and Lambda have their own ports, and the AWS CLI works with them:
      aws dynamodb list-tables --endpoint-url http://127.0.0.1:8083

DIFFERENCES FROM AWS
Signatures are not checked, but a function's permissions are: its Policies apply as on AWS. Without Policies a function may do \
nothing; with a Role it may do everything. /_local/rights on Lambda's port lists the actions of the functions. A failed \
asynchronous invocation is retried twice as on AWS, but after --retry-delay instead of one and two minutes. Secondary indexes \
are consistent at once. The ClientRequestToken of a transaction is ignored: a retry is applied again, or fails its conditions. \
There is no TLS, so a function does not reach @connections at https://${requestContext.domainName}/${stage}. The template writes \
the address into the function's variables (CONNECTIONS_ENDPOINT in this one), and the gateway replaces it with the local one.";

/// Runs a WebSocket API, an HTTP API, their functions and tables on this machine, from the template that deploys them.
///
/// It replaces API Gateway, Lambda and DynamoDB so closely that a function cannot tell the difference. It builds the
/// functions with cargo, runs them over the real Lambda Runtime API, and stops everything on Ctrl-C.
#[derive(Clone, Debug, Parser)]
#[command(name = "local-gateway", version, after_help = AFTER, after_long_help = AFTER)]
pub struct Options {
    /// The template, searched for in this folder and in the folders above it
    #[arg(long, value_name = "FILE", default_value = "template.yaml")]
    pub template: PathBuf,

    /// A value for a parameter of the template, instead of its default
    #[arg(long = "parameter", value_name = "NAME=VALUE", value_parser = name_and_value)]
    pub parameters: Vec<(String, String)>,

    /// Use ready-made functions, `DIR/BINARY` or `DIR/BINARY/bootstrap`, instead of building them. A function runs in
    /// the folder of its executable, which is $LAMBDA_TASK_ROOT
    #[arg(long, value_name = "DIR", conflicts_with = "release")]
    pub functions: Option<PathBuf>,

    /// Build the functions optimised (profile `local`)
    #[arg(long)]
    pub release: bool,

    /// Keep the tables in this folder instead of in memory
    #[arg(long, value_name = "DIR", conflicts_with = "dynamodb_endpoint")]
    pub data: Option<PathBuf>,

    /// Use the DynamoDB at this URL instead of the embedded one. It must have the template's tables. Faults of DynamoDB
    /// are not available
    #[arg(long, value_name = "URL")]
    pub dynamodb_endpoint: Option<String>,

    /// The public port. 0 picks free ports for everything
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    pub port: u16,

    /// The address of the public port. The HTTP API needs no credentials: on an address beyond loopback, every machine
    /// that reaches it can use it
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    pub host: IpAddr,

    /// A name under which clients reach the public port, besides localhost and addresses. Requests for other names are
    /// refused, because any site can have a name that leads to this machine. Can be repeated
    #[arg(long = "allow-host", value_name = "NAME", value_parser = host_name)]
    pub allow_hosts: Vec<String>,

    /// An origin, such as http://localhost:3000, whose pages may use the HTTP API besides the gateway's own page. They
    /// get CORS headers. Can be repeated
    #[arg(long = "allow-origin", value_name = "ORIGIN", value_parser = origin)]
    pub allow_origins: Vec<HeaderValue>,

    /// The port of the WebSocket API and its @connections [default: public port + 1]
    #[arg(long, value_name = "PORT")]
    pub websocket_port: Option<u16>,

    /// The port of Lambda's Invoke API [default: public port + 2]
    #[arg(long, value_name = "PORT")]
    pub lambda_port: Option<u16>,

    /// The port of DynamoDB [default: public port + 3]
    #[arg(long, value_name = "PORT", conflicts_with = "dynamodb_endpoint")]
    pub dynamodb_port: Option<u16>,

    /// When the gateway is ready, write its URLs as JSON to this file. The file is removed at the start and at the end
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,

    /// Inject this fault at random. RATE is from 0 (never) to 1 (always). Can be repeated
    #[arg(long = "fault", value_name = "KIND=RATE", long_help = fault_help())]
    pub faults: Vec<Fault>,

    /// The seed of the faults. The same seed gives the same faults
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,

    /// Divide the limits of a connection by this factor: 10 minutes idle, 2 hours in all
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = factor)]
    pub clock_scale: f64,

    /// Dispatch the messages of a connection one after the other, unlike AWS
    #[arg(long)]
    pub in_order: bool,

    /// The most instances of one function. Further invocations wait. The gateway warns once per function if one waits
    /// longer than a second
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = at_least_one)]
    pub max_instances: usize,

    /// The most concurrent invocations of one process, if the function supports Lambda's managed instances. Under load
    /// there are then far fewer processes, and the invocations of a process end with it. Lambda's normal limit is 1
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = managed)]
    pub concurrency: usize,

    /// Seconds before a failed asynchronous invocation is retried (AWS: 60, then 120)
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0, value_parser = seconds)]
    pub retry_delay: f64,

    /// Run the endpoints of SockJS's published protocol suite instead of the service: /echo, /close,
    /// /disabled_websocket_echo and /cookie_needed_echo, from tests/sockjs/template.yaml. This implies --tell-leaving,
    /// and closes have reasons, which API Gateway does not support. Set the suite's SOCKJS_URL to this gateway, without
    /// a path
    #[arg(long, conflicts_with = "template")]
    pub sockjs_conformance: bool,

    /// Notify a function when the client of its streamed response disconnects, by closing the connection that carries
    /// the response. Lambda does not notify it
    #[arg(long)]
    pub tell_leaving: bool,

    /// Show all lines that functions write, not only errors
    #[arg(short, long)]
    pub verbose: bool,
}

impl Options {
    /// Returns the template to run.
    #[must_use]
    pub fn template(&self) -> &Path {
        if self.sockjs_conformance {
            Path::new(SUITE)
        } else {
            &self.template
        }
    }

    /// Returns true if a function is notified when the client of its streamed response disconnects.
    #[must_use]
    pub fn tells_leaving(&self) -> bool {
        self.tell_leaving || self.sockjs_conformance
    }

    /// Returns the port of another listener: `chosen` if set, any free port if the public port is 0, else `offset`
    /// above the public port.
    #[must_use]
    pub fn beside(&self, chosen: Option<u16>, offset: u16) -> u16 {
        match (chosen, self.port) {
            (Some(port), _) => port,
            (None, 0) => 0,
            // Above the last port number, the system picks a free port.
            (None, port) => port.checked_add(offset).unwrap_or(0),
        }
    }

    /// Returns the wait before a failed asynchronous invocation is retried.
    #[must_use]
    pub fn retry_delay(&self) -> Duration {
        Duration::from_secs_f64(self.retry_delay)
    }
}

/// Returns the help text that lists every fault.
fn fault_help() -> String {
    let mut help =
        "Inject this fault at random. RATE is from 0 (never) to 1 (always). Can be repeated.\n"
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

fn host_name(text: &str) -> Result<String, &'static str> {
    let is_name = |text: &str| {
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        !text.is_empty() && text.bytes().all(is_part)
    };
    let name = is_name(text).then(|| text.to_owned());
    name.ok_or("write a name such as dev.example, without scheme and port")
}

fn origin(text: &str) -> Result<HeaderValue, &'static str> {
    let origin = text.parse::<Uri>().ok().and_then(|url| {
        let origin = format!("{}://{}", url.scheme()?, url.authority()?).to_ascii_lowercase();
        (origin == text).then(|| HeaderValue::from_str(text).ok())?
    });
    origin.ok_or("write it as a browser does, such as http://localhost:3000, without a path")
}

fn factor(text: &str) -> Result<f64, &'static str> {
    within(0.001..=1e6, text).ok_or("must be a number from 0.001 to 1000000")
}

fn seconds(text: &str) -> Result<f64, &'static str> {
    within(0.0..=3600.0, text).ok_or("must be a number from 0 to 3600")
}

/// Lambda's own limit for a managed instance is 1,600 (docs.aws.amazon.com/lambda, 2026-08).
fn managed(text: &str) -> Result<usize, &'static str> {
    within(1..=1600, text).ok_or("must be a number from 1 to 1600")
}

fn within<T: FromStr + PartialOrd>(range: RangeInclusive<T>, text: &str) -> Option<T> {
    text.parse().ok().filter(|number| range.contains(number))
}

fn at_least_one(text: &str) -> Result<usize, &'static str> {
    let number = text.parse().ok().filter(|number| *number > 0);
    number.ok_or("must be a number from 1")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(arguments: &[&str]) -> Result<Options, clap::Error> {
        Options::try_parse_from([&["local-gateway"], arguments].concat())
    }

    #[test]
    fn help_lists_every_fault() {
        let mut command = Options::command();
        command.clone().debug_assert();
        let help = command.render_long_help().to_string();
        for kind in Kind::ALL {
            assert!(help.contains(kind.name()), "{}", kind.name());
        }
    }

    #[test]
    fn help_names_differences_from_aws() {
        let help = Options::command().render_long_help().to_string();
        let (_, differs) = help.split_once("DIFFERENCES FROM AWS").unwrap();
        for name in ["ClientRequestToken", "requestContext.domainName"] {
            assert!(differs.contains(name), "{name}");
        }
    }

    #[test]
    fn ports_follow_public_port_unless_chosen() {
        let options = parse(&["--port", "9000"]).unwrap();
        assert_eq!(options.beside(options.lambda_port, 2), 9002);
        let options = parse(&["--port", "0", "--lambda-port", "7"]).unwrap();
        assert_eq!(options.beside(options.lambda_port, 2), 7);
        assert_eq!(options.beside(options.dynamodb_port, 3), 0);
        let options = parse(&["--port", "65535"]).unwrap();
        assert_eq!(options.beside(None, 1), 0);
    }

    #[test]
    fn allowed_hosts_and_origins_repeat() {
        let options = parse(&[
            "--allow-host",
            "dev.example",
            "--allow-host",
            "gateway",
            "--allow-origin",
            "http://localhost:3000",
            "--allow-origin",
            "https://[::1]",
        ])
        .unwrap();
        assert_eq!(options.allow_hosts, ["dev.example", "gateway"]);
        assert_eq!(
            options.allow_origins,
            ["http://localhost:3000", "https://[::1]"]
        );
    }

    #[test]
    fn sockjs_conformance_uses_its_own_template() {
        let options = parse(&["--sockjs-conformance"]).unwrap();
        assert!(options.tells_leaving());
        assert_eq!(options.template(), Path::new("tests/sockjs/template.yaml"));
        let options = parse(&[]).unwrap();
        assert!(!options.tells_leaving());
        assert_eq!(options.template(), Path::new("template.yaml"));
        assert!(parse(&["--sockjs-conformance", "--template", "x"]).is_err());
    }

    #[test]
    fn external_database_excludes_engine_options() {
        let other = ["--dynamodb-endpoint", "http://127.0.0.1:8000"];
        for own in [["--dynamodb-port", "8000"], ["--data", "folder"]] {
            let refusal = parse(&[other, own].concat()).unwrap_err().to_string();
            for name in [other[0], own[0]] {
                assert!(refusal.contains(name), "{refusal}");
            }
        }
    }

    #[test]
    fn invalid_values_are_refused() {
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
            ["--allow-host", "http://dev.example"],
            ["--allow-host", "dev.example:8080"],
            ["--allow-host", ""],
            ["--allow-origin", "localhost:3000"],
            ["--allow-origin", "http://localhost:3000/"],
            ["--allow-origin", "http://Localhost:3000"],
            ["--allow-origin", "*"],
        ] {
            assert!(parse(&arguments).is_err(), "{arguments:?}");
        }
    }
}
