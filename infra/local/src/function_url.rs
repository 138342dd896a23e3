//! Function URLs: each has a port of its own, as on AWS each has a host of its own.

use std::net::Ipv4Addr;

use http::StatusCode;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

use crate::http_api::HttpApi;
use crate::lambda::Lambda;
use crate::server;
use crate::template::{HttpRoute, Template};

/// The functions' URLs, listened on but not yet served.
#[derive(Debug)]
pub struct FunctionUrls {
    urls: Vec<FunctionUrl>,
}

#[derive(Debug)]
struct FunctionUrl {
    function: String,
    /// As the template's intrinsic functions give it, with a slash at its end.
    on_aws: String,
    here: String,
    listener: TcpListener,
}

impl FunctionUrls {
    /// Listens on a free port for each function that has a URL.
    ///
    /// # Errors
    /// When no port can be listened on.
    pub async fn listen(template: &Template) -> std::io::Result<Self> {
        let mut urls = Vec::new();
        for function in template.functions.values().filter(|function| function.url) {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            urls.push(FunctionUrl {
                function: function.id.clone(),
                on_aws: template.function_url(&function.id),
                here: format!("http://{}/", listener.local_addr()?),
                listener,
            });
        }
        Ok(Self { urls })
    }

    /// What stands for what in the functions' variables.
    pub fn replacements(&self) -> impl Iterator<Item = (String, String)> {
        self.urls
            .iter()
            .map(|url| (url.on_aws.clone(), url.here.clone()))
    }

    /// Serves them until the handles are aborted, and says where.
    #[must_use]
    pub fn serve(self, lambda: &Lambda) -> Vec<AbortHandle> {
        self.urls
            .into_iter()
            .map(|url| {
                eprintln!("the function {} has the URL {}", url.function, url.here);
                // "Function URLs use payload format version 2.0", the format of HTTP APIs, on one route for everything.
                let route = HttpRoute {
                    method: "ANY".to_owned(),
                    path: "$default".to_owned(),
                    api_id: url.function.to_lowercase(),
                    stage: "$default".to_owned(),
                    function: url.function,
                };
                let api = HttpApi::new(vec![route], lambda.clone());
                server::serve(url.listener, move |request, source| {
                    let api = api.clone();
                    async move {
                        if server::is_rebound(request.headers()) {
                            return Ok(forbidden());
                        }
                        Ok(api.answer(request, source).await.unwrap_or_else(forbidden))
                    }
                })
            })
            .collect()
    }
}

fn forbidden() -> server::Answer {
    server::json(StatusCode::FORBIDDEN, r#"{"Message":"Forbidden"}"#)
}
