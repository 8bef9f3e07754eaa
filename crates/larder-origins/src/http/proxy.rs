//! Which proxy the environment names for an address, by curl's rules.
//!
//! `http_proxy` (in small letters only) for http, `https_proxy` or `HTTPS_PROXY` for https, else `all_proxy`
//! or `ALL_PROXY`; none for the hosts and domains in `no_proxy` or `NO_PROXY`. The client library speaks
//! CONNECT with proxies, for http addresses, too.

use ureq::Proxy;
use url::Url;

/// The proxy for an address; `variable` reads the environment. An error names the variable, not its value:
/// that may hold a password.
pub(super) fn of(
    url: &Url,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Option<Proxy>, String> {
    let names: &[&str] = match url.scheme() {
        "https" => &["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"],
        _ => &["http_proxy", "all_proxy", "ALL_PROXY"],
    };
    let set = |names: &[&'static str]| names.iter().find_map(|name| Some((*name, variable(name)?)));
    let Some((name, value)) = set(names).filter(|(_, value)| !value.trim().is_empty()) else {
        return Ok(None);
    };
    let exceptions = set(&["no_proxy", "NO_PROXY"])
        .map(|(_, hosts)| hosts)
        .unwrap_or_default();
    if is_exception(url.host_str().unwrap_or_default(), &exceptions) {
        return Ok(None);
    }
    // The library would take a SOCKS proxy and then not use it.
    let known = |proxy: &Proxy| matches!(proxy.uri().scheme_str(), Some("http" | "https"));
    let wrong = || {
        format!(
            "the environment's {name} is not a proxy that can be used; http[s]://[user:password@]host[:port] is"
        )
    };
    let proxy = Proxy::new(value.trim()).ok().filter(known);
    proxy.ok_or_else(wrong).map(Some)
}

fn is_exception(host: &str, exceptions: &str) -> bool {
    let bare = |text: &str| text.trim_matches(['[', ']', '.']).to_ascii_lowercase();
    let host = bare(host);
    exceptions
        .split([',', ' '])
        .map(bare)
        .filter(|entry| !entry.is_empty())
        .any(|entry| {
            entry == "*"
                || host == entry
                || host
                    .strip_suffix(&entry)
                    .is_some_and(|rest| rest.ends_with('.'))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(url: &str, environment: &[(&str, &str)]) -> Option<String> {
        let url = Url::parse(url).unwrap();
        let variable = |name: &str| {
            let found = environment.iter().find(|(set, _)| *set == name);
            found.map(|(_, value)| value.to_string())
        };
        of(&url, variable)
            .unwrap()
            .map(|proxy| format!("{}:{}", proxy.host(), proxy.port()))
    }

    #[test]
    fn each_scheme_has_its_own() {
        let environment = [
            ("http_proxy", "http://one:1"),
            ("HTTPS_PROXY", "two:2"),
            ("ALL_PROXY", "http://three:3"),
        ];
        assert_eq!(
            chosen("http://example.com/", &environment).unwrap(),
            "one:1"
        );
        assert_eq!(
            chosen("https://example.com/", &environment).unwrap(),
            "two:2"
        );
        assert_eq!(
            chosen("http://example.com/", &environment[2..]).unwrap(),
            "three:3"
        );
        assert_eq!(
            chosen("http://example.com/", &[("HTTP_PROXY", "http://one:1")]),
            None
        );
        assert_eq!(
            chosen(
                "http://example.com/",
                &[("http_proxy", ""), ("ALL_PROXY", "http://three:3")]
            ),
            None
        );
    }

    #[test]
    fn exceptions() {
        for (host, exceptions, expected) in [
            ("example.com", "example.com", true),
            ("www.example.com", "other, .example.com", true),
            ("www.Example.com", "EXAMPLE.com", true),
            ("badexample.com", "example.com", false),
            ("127.0.0.1", "localhost,127.0.0.1", true),
            ("[::1]", "::1", true),
            ("anything", "*", true),
            ("anything", "", false),
        ] {
            assert_eq!(
                is_exception(host, exceptions),
                expected,
                "{host} {exceptions}"
            );
        }
    }

    #[test]
    fn a_wrong_one_is_an_error_without_its_password() {
        let url = Url::parse("https://example.com").unwrap();
        let error = of(&url, |name| {
            (name == "https_proxy").then(|| "socks5://u:s3cret@host".into())
        })
        .unwrap_err();
        assert!(
            error.contains("https_proxy") && !error.contains("s3cret"),
            "{error}"
        );
    }
}
