//! What `weir serve` refuses to start with: listeners that let strangers operate the gateway. Pure, so that every combination
//! is tested; each sentence says what to do instead.

use crate::app::{ModelControl, ServeOptions};

/// Every reason not to start; empty when there is none.
pub fn refusals(options: &ServeOptions) -> Vec<String> {
    let mut reasons = Vec::new();
    let ops_is_guarded = options.ops_token_file.is_some() || options.ops_readonly || options.insecure_ops;
    if !options.ops_host.is_loopback() && !ops_is_guarded {
        reasons.push(format!(
            "--ops-host {}: anyone who reaches this address could operate the gateway; give --ops-token-file FILE to ask \
             for a token, or --ops-readonly to answer only metrics and health, or --insecure-ops if the network keeps \
             strangers out",
            options.ops_host
        ));
    }
    let explicit = options.model_control == ModelControl::Explicit;
    if explicit && !options.host.is_loopback() && !options.insecure_data_control {
        reasons.push(format!(
            "--host {} with --model-control explicit: anyone who reaches this address could load and unload models; bind \
             a loopback address, or leave --model-control auto, or give --insecure-data-control if the network keeps \
             strangers out",
            options.host
        ));
    }
    reasons
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn count(change: impl FnOnce(&mut ServeOptions)) -> usize {
        let mut options = ServeOptions::default();
        change(&mut options);
        refusals(&options).len()
    }

    fn any() -> IpAddr {
        IpAddr::from([0, 0, 0, 0])
    }

    #[test]
    fn the_default_and_loopback_start() {
        assert_eq!(count(|_| {}), 0);
        assert_eq!(count(|o| o.ops_host = IpAddr::from([127, 9, 9, 9])), 0);
        assert_eq!(count(|o| o.ops_host = "::1".parse().unwrap()), 0);
        assert_eq!(count(|o| o.host = any()), 0, "predictions are for everybody");
        assert_eq!(count(|o| o.model_control = ModelControl::Explicit), 0);
    }

    #[test]
    fn an_open_ops_listener_needs_a_guard() {
        for host in ["0.0.0.0", "::", "10.0.0.1", "::ffff:127.0.0.1"] {
            let open = |o: &mut ServeOptions| o.ops_host = host.parse().unwrap();
            assert_eq!(count(open), 1, "{host}");
            assert_eq!(count(|o| (open(o), o.ops_token_file = Some("t".into())).1), 0, "{host}");
            assert_eq!(count(|o| (open(o), o.ops_readonly = true).1), 0, "{host}");
            assert_eq!(count(|o| (open(o), o.insecure_ops = true).1), 0, "{host}");
            assert_eq!(count(|o| (open(o), o.insecure_data_control = true).1), 1, "{host}");
        }
    }

    #[test]
    fn open_explicit_control_needs_the_word() {
        let open = |o: &mut ServeOptions| {
            o.host = any();
            o.model_control = ModelControl::Explicit;
        };
        assert_eq!(count(open), 1);
        assert_eq!(count(|o| (open(o), o.insecure_data_control = true).1), 0);
        assert_eq!(count(|o| (open(o), o.insecure_ops = true).1), 1);
        assert_eq!(count(|o| (open(o), o.ops_host = any()).1), 2, "both are said at once");
    }

    #[test]
    fn sentences_name_every_way_out() {
        let options = ServeOptions { ops_host: any(), ..ServeOptions::default() };
        let text = refusals(&options).join("\n");
        for flag in ["--ops-host 0.0.0.0", "--ops-token-file", "--ops-readonly", "--insecure-ops"] {
            assert!(text.contains(flag), "{text}");
        }
    }
}
