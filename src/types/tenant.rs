//! Where a request says whose it is: what an operator may configure. Read from flags and files, used by the gateway.

use std::str::FromStr;

use super::Error;

/// Where a request says whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TenantKey {
    /// In a header or gRPC metadata, by lower-case name.
    Header(Box<str>),
    /// In a request parameter.
    Parameter(Box<str>),
}

impl FromStr for TenantKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text.split_once(':') {
            Some(("header", name)) if !name.is_empty() => Ok(TenantKey::Header(name.to_ascii_lowercase().into())),
            Some(("parameter", name)) if !name.is_empty() => Ok(TenantKey::Parameter(name.into())),
            _ => Err(Error::expected("tenant", "'header:NAME' or 'parameter:NAME'", format_args!("'{text}'"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_or_a_parameter_and_nothing_else() {
        assert_eq!("header:X-Tenant".parse(), Ok(TenantKey::Header("x-tenant".into())));
        assert_eq!("parameter:Customer".parse(), Ok(TenantKey::Parameter("Customer".into())));
        for text in ["", "header", "header:", "cookie:x", "parameter:"] {
            let error = text.parse::<TenantKey>().unwrap_err();
            let want = format!("tenant: expected 'header:NAME' or 'parameter:NAME', got '{text}'");
            assert_eq!(error.text(), want);
        }
    }
}
