//! Trace and log settings as clients may read them. Writing them is refused on the data listeners, so they are plain values that
//! the handlers make from the server's configuration; `grpc` and `json` write them down.

/// Log settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// Events of level info and above are written.
    pub info: bool,
    /// Events of level warning and above are written.
    pub warning: bool,
    /// Events of level error are written.
    pub error: bool,
    /// 0 = nothing below info, 1 = debug, 2 = trace.
    pub verbose_level: u32,
}

/// The value of a log setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LogValue {
    Bool(bool),
    Number(u32),
    Text(&'static str),
}

impl LogSettings {
    /// Names and values in the extension's order. There is no log file, and times are ISO 8601.
    pub(super) fn entries(&self) -> [(&'static str, LogValue); 6] {
        [
            ("log_file", LogValue::Text("")),
            ("log_info", LogValue::Bool(self.info)),
            ("log_warning", LogValue::Bool(self.warning)),
            ("log_error", LogValue::Bool(self.error)),
            ("log_verbose_level", LogValue::Number(self.verbose_level)),
            ("log_format", LogValue::Text("ISO8601")),
        ]
    }
}

/// Trace settings: requests are not traced into a file, so these never change. `trace_level` is a list, the others are text.
pub(super) const TRACE: [(&str, &str); 5] =
    [("trace_file", ""), ("trace_level", "OFF"), ("trace_rate", "1000"), ("trace_count", "-1"), ("log_frequency", "0")];
