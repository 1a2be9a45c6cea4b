//! ONNX Runtime without Weir, in a process of its own, because a process may have one environment of it: a session of one thread,
//! tensors that stay, `run`, outputs looked at. The parent says in a line which family, batch and time, and is told rows per second.

use std::{
    collections::BTreeMap,
    env,
    hint::black_box,
    io::{self, BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

use ort::{session::Session, value::DynValue, value::Tensor};

use crate::{
    families::{Family, Input, Values},
    rows_per_second,
};

/// Names the library, for the process that is to be this one.
pub(crate) const LIBRARY: &str = "WEIR_BENCH_BARE";

/// The process.
pub(crate) struct Bare {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Bare {
    pub(crate) fn start(library: &Path) -> io::Result<Self> {
        let mut command = Command::new(env::current_exe()?);
        command.env(LIBRARY, library).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let (Some(to), Some(from)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("no pipes"));
        };
        Ok(Self { child, to, from: BufReader::new(from) })
    }

    /// Rows per second of a family at a batch size.
    pub(crate) fn measure(&mut self, family: usize, rows: usize, time: Duration) -> io::Result<f64> {
        writeln!(self.to, "{family} {rows} {}", time.as_millis())?;
        let mut line = String::new();
        self.from.read_line(&mut line)?;
        line.trim().parse().map_err(|_| io::Error::other(format!("the bare side said '{}'", line.trim())))
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        // It ends by itself when its input does; nobody waits for that here.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The other side.
pub(crate) fn serve(library: &Path, families: &[Family]) -> Result<(), Box<dyn std::error::Error>> {
    let environment = ort::init_from(library)?.with_telemetry(false).build()?;
    environment.set_log_level(ort::logging::LogLevel::Error);
    let mut sessions: BTreeMap<usize, Session> = BTreeMap::new();
    for line in io::stdin().lock().lines() {
        let line = line?;
        let mut words = line.split_whitespace().map(str::parse::<usize>);
        let (Some(Ok(family)), Some(Ok(rows)), Some(Ok(ms))) = (words.next(), words.next(), words.next()) else {
            return Err(format!("not understood: '{line}'").into());
        };
        let spec = &families[family];
        if let std::collections::btree_map::Entry::Vacant(entry) = sessions.entry(family) {
            let mut builder = Session::builder(&environment)?.with_intra_threads(1)?.with_inter_threads(1)?;
            entry.insert(builder.commit_from_memory(&spec.model)?);
        }
        let Some(session) = sessions.get_mut(&family) else { continue };
        let values = spec.inputs.iter().map(|input| tensor(input, rows)).collect::<Result<Vec<_>, _>>()?;
        let mut failed = None;
        let speed = rows_per_second(rows, Duration::from_millis(ms as u64), || {
            let given: Vec<_> = values.iter().map(ort::session::SessionInputValue::from).collect();
            match session.run(&given[..]) {
                Ok(outputs) => outputs.into_iter().for_each(|(_, output)| {
                    black_box(&output);
                }),
                Err(error) => failed = Some(error),
            }
        });
        if let Some(error) = failed {
            return Err(error.into());
        }
        println!("{speed}");
    }
    Ok(())
}

fn tensor(input: &Input, rows: usize) -> ort::Result<DynValue> {
    let (shape, bytes) = (input.shape(rows), input.bytes(rows));
    Ok(match input.values {
        Values::Ids(_) => Tensor::from_array((shape, numbers(&bytes, i64::from_le_bytes)))?.into_dyn(),
        Values::Floats | Values::Units | Values::Ones => {
            Tensor::from_array((shape, numbers(&bytes, f32::from_le_bytes)))?.into_dyn()
        }
    })
}

fn numbers<T, const N: usize>(bytes: &[u8], read: fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks().0.iter().map(|chunk| read(*chunk)).collect()
}
