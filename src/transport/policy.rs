//! Who may do what on which listener. Handlers parse a request into an [`Action`] first and ask here with that, never with a
//! path or a method name, so that every spelling of a request meets the same rule. Pure.

use crate::types::{Error, ErrorCode};

/// What a request does, whatever it was called on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Health, for probes.
    Probe,
    /// `/metrics`.
    Metrics,
    /// Asks for something, predictions included.
    Read,
    /// Loads or unloads a model.
    Control,
    /// Changes trace or log settings.
    WriteSettings,
    /// Anything about shared memory.
    SharedMemory,
    /// Changes something on the ops listener.
    Write,
}

/// What clients of a polling server are told, in the words that they know.
const NOT_EXPLICIT: &str = "explicit model load / unload is not allowed if polling is enabled";

/// The rule of the data listeners: they do not change state, unless models are loaded explicitly.
///
/// # Errors
/// `Unavailable` for settings, and for loads and unloads unless `explicit_control`; `Unimplemented` for what this server does
/// not have; `PermissionDenied` for the rest.
pub(super) fn decide_data(action: Action, explicit_control: bool) -> Result<(), Error> {
    match action {
        Action::Probe | Action::Read => Ok(()),
        Action::Control if explicit_control => Ok(()),
        Action::Control => Err(Error::unavailable(NOT_EXPLICIT)),
        Action::WriteSettings => {
            Err(Error::unavailable("settings: given when the server starts, as --log-level and --log-format"))
        }
        Action::SharedMemory => Err(Error::new(ErrorCode::Unimplemented, "shared memory: not supported")),
        Action::Metrics | Action::Write => Err(Error::new(ErrorCode::PermissionDenied, "use the ops listener")),
    }
}

/// What the ops listener knows about a request when it decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Credentials {
    /// The Host header names this server.
    pub(super) known_host: bool,
    /// The bearer token: right, wrong, or none given.
    pub(super) token: Option<bool>,
    /// The body says that it is JSON: a form in a browser cannot say that.
    pub(super) json: bool,
}

/// How the ops listener is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OpsRules {
    /// A token is needed.
    pub(super) token: bool,
    /// Nothing but metrics and health.
    pub(super) readonly: bool,
}

/// The rule of the ops listener.
///
/// # Errors
/// `PermissionDenied` for an unknown Host or a read-only listener, `Unauthenticated` for a missing or wrong token,
/// `InvalidArgument` for a write that is not JSON.
pub(super) fn decide_ops(rules: OpsRules, action: Action, given: Credentials) -> Result<(), Error> {
    if matches!(action, Action::Probe | Action::Metrics) {
        return Ok(());
    }
    if rules.readonly {
        return Err(Error::new(ErrorCode::PermissionDenied, "ops: this listener only shows metrics and health"));
    }
    if !given.known_host {
        let text = "host: not one of this listener's names: expected a loopback name, the address it is bound to, \
                    or one of --ops-allow-host";
        return Err(Error::new(ErrorCode::PermissionDenied, text));
    }
    if rules.token && given.token != Some(true) {
        let text = if given.token.is_some() { "token: not accepted" } else { "token: expected Authorization: Bearer" };
        return Err(Error::new(ErrorCode::Unauthenticated, text));
    }
    if action != Action::Read && !given.json {
        return Err(Error::invalid("content-type: expected application/json"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Action; 7] = [
        Action::Probe,
        Action::Metrics,
        Action::Read,
        Action::Control,
        Action::WriteSettings,
        Action::SharedMemory,
        Action::Write,
    ];

    #[test]
    fn data_listeners_change_nothing() {
        use ErrorCode::{PermissionDenied, Unavailable, Unimplemented};
        for (explicit, control) in [(false, Some(Unavailable)), (true, None)] {
            let codes = ALL.map(|action| decide_data(action, explicit).err().map(|error| error.code()));
            let (denied, settings, memory) = (Some(PermissionDenied), Some(Unavailable), Some(Unimplemented));
            assert_eq!(codes, [None, denied, None, control, settings, memory, denied]);
        }
    }

    #[test]
    fn probes_and_metrics_need_nothing_and_the_rest_everything() {
        let stranger = Credentials { known_host: false, token: None, json: false };
        let operator = Credentials { known_host: true, token: Some(true), json: true };
        for (token, readonly) in [(true, false), (false, true), (true, true)] {
            let rules = OpsRules { token, readonly };
            for action in ALL {
                let open = matches!(action, Action::Probe | Action::Metrics);
                assert_eq!(decide_ops(rules, action, stranger).is_ok(), open, "{action:?}");
                assert_eq!(decide_ops(rules, action, operator).is_ok(), open || !readonly, "{action:?}");
            }
        }
    }

    #[test]
    fn each_credential_is_needed_by_itself() {
        let rules = OpsRules { token: true, readonly: false };
        let good = Credentials { known_host: true, token: Some(true), json: true };
        let code = |action, given| decide_ops(rules, action, given).err().map(|error| error.code());
        assert_eq!(code(Action::Write, good), None);
        assert_eq!(code(Action::Read, Credentials { json: false, ..good }), None);
        let elsewhere = Credentials { known_host: false, ..good };
        assert_eq!(code(Action::Read, elsewhere), Some(ErrorCode::PermissionDenied));
        for token in [None, Some(false)] {
            assert_eq!(code(Action::Read, Credentials { token, ..good }), Some(ErrorCode::Unauthenticated));
        }
        assert_eq!(code(Action::Write, Credentials { json: false, ..good }), Some(ErrorCode::InvalidArgument));
    }
}
