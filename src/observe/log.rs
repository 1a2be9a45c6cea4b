//! Logs: one event a line, JSON for machines or coloured text for people, control characters escaped so that nothing a client
//! sends can forge a line or drive a terminal. Writing never blocks: a thread of its own writes, and what it cannot keep up
//! with is dropped and counted. Set up once by the application, before anything else.

use std::{
    fmt::{self, Write as _},
    io::{self, IsTerminal},
};

use tracing::{Event, Subscriber, field::Field};
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    field::{RecordFields, Visit},
    fmt::{
        FmtContext, FormatEvent, FormatFields, MakeWriter,
        format::{JsonFields, Writer},
        time::{FormatTime, SystemTime},
    },
    layer::SubscriberExt,
    registry::LookupSpan,
};

use crate::types::Error;

/// Events that wait for the writer before events are dropped.
const BUFFERED_EVENTS: usize = 8192;

/// How events are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// [`LogFormat::Pretty`] on a terminal, else [`LogFormat::Json`].
    #[default]
    Auto,
    /// One JSON object a line.
    Json,
    /// Time, level, target, message, `key=value`; in colour on a terminal.
    Pretty,
}

/// What is logged and how.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// How events are written.
    pub format: LogFormat,
    /// `off`, `error`, `warn`, `info`, `debug` or `trace` for Weir itself (libraries then log warnings at most), or filter
    /// directives such as `weir=debug,h2=info`.
    pub level: String,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { format: LogFormat::Auto, level: "info".to_owned() }
    }
}

/// Keeps the log's writer running; dropping it writes what still waits. Hold it until the process ends.
#[derive(Debug)]
pub struct LogGuard {
    _worker: WorkerGuard,
    errors: ErrorCounter,
}

impl LogGuard {
    /// Reads how many events have been dropped: for [`super::Metrics::count_log_drops`].
    pub fn drops(&self) -> impl Fn() -> u64 + Send + Sync + use<> {
        let errors = self.errors.clone();
        move || errors.dropped_lines() as u64
    }
}

/// Starts logging to standard error, for the whole process.
///
/// # Errors
/// `InvalidArgument` when the level cannot be read; `Internal` when logging has been started before.
pub fn init(config: &LogConfig) -> Result<LogGuard, Error> {
    let terminal = io::stderr().is_terminal();
    let (writer, guard) = writer(io::stderr());
    let subscriber = subscriber(config, writer, terminal)?;
    tracing::subscriber::set_global_default(subscriber)
        .map_err(|error| Error::internal("log: started twice", error))?;
    Ok(guard)
}

fn writer(to: impl io::Write + Send + 'static) -> (tracing_appender::non_blocking::NonBlocking, LogGuard) {
    let builder = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(BUFFERED_EVENTS);
    let (writer, worker) = builder.thread_name("weir-log").finish(to);
    let errors = writer.error_counter();
    (writer, LogGuard { _worker: worker, errors })
}

fn subscriber<W>(config: &LogConfig, writer: W, terminal: bool) -> Result<impl Subscriber + Send + Sync + use<W>, Error>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = filter(&config.level)?;
    let layer = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(terminal);
    let pretty = match config.format {
        LogFormat::Auto => terminal,
        LogFormat::Json => false,
        LogFormat::Pretty => true,
    };
    let layer: Box<dyn Layer<Registry> + Send + Sync> = if pretty {
        layer.fmt_fields(Pretty).event_format(Pretty).with_filter(filter).boxed()
    } else {
        let json = tracing_subscriber::fmt::format().json().flatten_event(true).with_current_span(false);
        layer.fmt_fields(JsonFields::new()).event_format(Escaped(json)).with_filter(filter).boxed()
    };
    Ok(Registry::default().with(layer))
}

/// Libraries speak of their own business below warnings: only who names them in directives gets to hear it.
fn filter(level: &str) -> Result<EnvFilter, Error> {
    let expected = "off, error, warn, info, debug, trace or directives";
    let wrong = || Error::expected("log level", expected, format_args!("'{level}'"));
    let plain = !level.contains(['=', ',']);
    let directives = match level {
        _ if !plain => level.to_owned(),
        "off" | "error" | "warn" => level.to_owned(),
        "info" | "debug" | "trace" => format!("warn,weir={level}"),
        _ => return Err(wrong()),
    };
    EnvFilter::builder().parse(directives).map_err(|_| wrong())
}

/// Text for people.
struct Pretty;

impl<S, N> FormatEvent<S, N> for Pretty
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let meta = event.metadata();
        let (colour, dim, plain) = if out.has_ansi_escapes() {
            let colour = match *meta.level() {
                tracing::Level::ERROR => "\x1b[31m",
                tracing::Level::WARN => "\x1b[33m",
                tracing::Level::INFO => "\x1b[32m",
                _ => "\x1b[34m",
            };
            (colour, "\x1b[2m", "\x1b[0m")
        } else {
            ("", "", "")
        };
        out.write_str(dim)?;
        SystemTime.format_time(&mut out)?;
        write!(out, "{plain} {colour}{:>5}{plain} {dim}{}{plain}", meta.level(), meta.target())?;
        let mut text = String::new();
        event.record(&mut Fields(&mut text));
        for span in context.event_scope().into_iter().flatten() {
            if let Some(fields) = span.extensions().get::<tracing_subscriber::fmt::FormattedFields<N>>()
                && !fields.is_empty()
            {
                text.push_str(&fields.fields);
            }
        }
        escape(&mut out, &text, |c| c.escape_default().to_string())?;
        out.write_char('\n')
    }
}

/// The fields of a span, uncoloured: they are escaped with the event that they are shown with.
impl<'w> FormatFields<'w> for Pretty {
    fn format_fields<R: RecordFields>(&self, mut out: Writer<'w>, fields: R) -> fmt::Result {
        let mut text = String::new();
        fields.record(&mut Fields(&mut text));
        out.write_str(&text)
    }
}

/// Writes ` message key=value …`.
struct Fields<'a>(&'a mut String);

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        if value.contains([' ', '"', '=']) && field.name() != "message" {
            self.record_debug(field, &value);
        } else {
            self.record_debug(field, &format_args!("{value}"));
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a String cannot fail.
        let _ = match field.name() {
            "message" => write!(self.0, " {value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}

/// JSON in which no control character is left, not even those that JSON allows.
struct Escaped<F>(F);

impl<S, N, F> FormatEvent<S, N> for Escaped<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut text = String::new();
        self.0.format_event(context, Writer::new(&mut text), event)?;
        // Outside of strings the formatter writes no control character but the last newline; inside, \u is always allowed.
        escape(&mut out, text.trim_end_matches('\n'), |c| format!("\\u{:04x}", u32::from(c)))?;
        out.write_char('\n')
    }
}

fn escape(out: &mut Writer<'_>, text: &str, how: impl Fn(char) -> String) -> fmt::Result {
    let mut rest = text;
    while let Some((at, c)) = rest.char_indices().find(|(_, c)| is_control(*c)) {
        out.write_str(&rest[..at])?;
        out.write_str(&how(c))?;
        rest = &rest[at + c.len_utf8()..];
    }
    out.write_str(rest)
}

/// Control characters, and those that end a line or turn its direction without being one.
fn is_control(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    };

    use parking_lot::Mutex;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is written while `events` runs.
    fn logged(format: LogFormat, level: &str, terminal: bool, events: impl FnOnce()) -> String {
        let sink = Sink::default();
        let (writer, guard) = writer(sink.clone());
        let config = LogConfig { format, level: level.to_owned() };
        tracing::subscriber::with_default(subscriber(&config, writer, terminal).unwrap(), events);
        drop(guard);
        String::from_utf8(sink.0.lock().clone()).unwrap()
    }

    fn hostile() {
        let name = "a\nb\r\u{1b}[31m\u{85}\u{7f}\u{202e}\"x\"";
        tracing::info!(model = name, rows = 3, "no such model {name}");
    }

    #[test]
    fn an_event_is_one_line_whatever_it_says() {
        for (format, terminal) in [(LogFormat::Json, false), (LogFormat::Pretty, false), (LogFormat::Auto, true)] {
            let text = logged(format, "info", terminal, hostile);
            assert_eq!(text.lines().count(), 1, "{text:?}");
            let line = text.strip_suffix('\n').unwrap();
            let ours = line.replace("\x1b[0m", "").replace("\x1b[2m", "").replace("\x1b[32m", "");
            assert_eq!(ours == line, !terminal);
            assert!(!ours.chars().any(is_control), "{text:?}");
        }
    }

    #[test]
    fn json_carries_every_field() {
        let text = logged(LogFormat::Auto, "info", false, hostile);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["level"], "INFO");
        assert_eq!(value["rows"], 3);
        assert_eq!(value["model"], "a\nb\r\u{1b}[31m\u{85}\u{7f}\u{202e}\"x\"");
        assert_eq!(value["target"], "weir::observe::log::tests");
        assert!(value["timestamp"].as_str().unwrap().ends_with('Z'));
    }

    #[test]
    fn pretty_is_readable() {
        let text = logged(LogFormat::Pretty, "info", false, || {
            tracing::warn!(model = "digits", why = "not stable yet", took_ms = 2.5, "skipped");
        });
        let (_, rest) = text.split_once("Z  ").unwrap();
        assert_eq!(rest, "WARN weir::observe::log::tests skipped model=digits why=\"not stable yet\" took_ms=2.5\n");
    }

    #[test]
    fn spans_add_their_fields() {
        let event = || {
            let span = tracing::info_span!("request", id = "a\u{1b}b");
            span.in_scope(|| tracing::info!("answered"));
        };
        assert!(logged(LogFormat::Pretty, "info", true, event).ends_with("answered id=a\\u{1b}b\n"));
        let json: serde_json::Value = serde_json::from_str(&logged(LogFormat::Json, "info", true, event)).unwrap();
        assert_eq!(json["spans"][0]["id"], "a\u{1b}b");
    }

    #[test]
    fn levels_are_weir_s_own() {
        let events = || {
            tracing::debug!(target: "weir::x", "ours");
            tracing::info!(target: "h2::x", "theirs");
            tracing::error!(target: "h2::x", "broken");
        };
        let has = |level: &str, words: [bool; 3]| {
            let text = logged(LogFormat::Pretty, level, false, events);
            assert_eq!(["ours", "theirs", "broken"].map(|word| text.contains(word)), words, "{level}: {text}");
        };
        has("debug", [true, false, true]);
        has("info", [false, false, true]);
        has("off", [false, false, false]);
        has("h2=info", [false, true, true]);
        for wrong in ["loud", "weir=loud"] {
            let error = filter(wrong).unwrap_err();
            assert!(error.text().starts_with("log level: expected off, error"), "{error}");
        }
    }

    /// A reader that stands still until it is told to go on.
    struct Stuck(Receiver<()>);

    impl io::Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // An error means that the test has let go of the other end.
            let _ = self.0.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_slow_reader_costs_events_not_time() {
        let (go, wait): (SyncSender<()>, _) = sync_channel(0);
        let (writer, guard) = writer(Stuck(wait));
        let subscriber = subscriber(&LogConfig::default(), writer, false).unwrap();
        let extra = 100;
        tracing::subscriber::with_default(subscriber, || {
            (0..BUFFERED_EVENTS + extra + 1).for_each(|_| hostile());
        });
        // One event may be in the writer's hands besides those that wait.
        let dropped = guard.drops()();
        assert!((extra as u64..=extra as u64 + 1).contains(&dropped), "{dropped}");
        drop(go);
        drop(guard);
    }
}
