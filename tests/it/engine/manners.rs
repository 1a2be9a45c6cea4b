//! How the sessions of every engine behave when requests are odd. Called by `sessions` for the embedded engine and by
//! `onnxruntime` for the other.

use super::*;

pub(super) fn fill(session: &mut dyn Session, shape: &[usize], values: &[f32]) {
    let InputBuffer::Plain(buffer) = session.input(0, shape).unwrap() else { panic!("not numbers") };
    buffer.copy_from_slice(bytemuck::cast_slice(values));
}

pub(super) fn plain(session: &dyn Session) -> Vec<u8> {
    let OutputData::Plain(bytes) = session.output(0).unwrap().data else { panic!("not numbers") };
    bytes.to_vec()
}

/// Of the fixture `unnamed-batch`: one buffer serves every run.
pub(super) fn use_buffers_again(model: &dyn Model) {
    let mut session = model.plan(Some(2)).unwrap().session().unwrap();
    let mut places = Vec::new();
    for run in 0..3 {
        let InputBuffer::Plain(buffer) = session.input(0, &[2, 4]).unwrap() else { panic!("not numbers") };
        places.push(buffer.as_ptr().addr());
        buffer.copy_from_slice(bytemuck::cast_slice(&[run as f32; 8]));
        session.run().unwrap();
        assert_eq!(plain(&*session), bytemuck::cast_slice::<f32, u8>(&[run as f32 * 2.0; 8]));
    }
    assert_eq!(places, [places[0]; 3]);
}

/// Of the fixture `unnamed-batch`: what does not fit is an error that says so.
pub(super) fn refuse_shapes_that_do_not_fit(model: &dyn Model) {
    let mut session = model.plan(Some(2)).unwrap().session().unwrap();
    for shape in [&[3, 4][..], &[2, 5], &[2], &[2, 4, 1]] {
        let text = session.input(0, shape).unwrap_err().to_string();
        assert!(text.starts_with("input 'x': shape: expected [Some(2), Some(4)], got"), "{text}");
    }
    assert!(session.input(1, &[2, 4]).is_err());
    assert_eq!(session.run().unwrap_err().to_string(), "input 'x': was not given");
    assert!(session.output(0).is_err());
    assert!(model.plan(None).is_err());
    assert!(model.plan(Some(0)).is_err());
}

/// Of the fixture `unnamed-batch` and the operator `range`, loaded for at most 64 bytes of outputs: they are counted when a plan
/// is compiled, and where only a request decides on them, when it runs.
pub(super) fn limit_outputs(rows: &dyn Model, range: &dyn Model) {
    assert!(rows.plan(Some(4)).is_ok());
    let text = rows.plan(Some(5)).err().unwrap().to_string();
    assert_eq!(text, "plan for 5 rows: outputs: expected at most 64 bytes, got 80");
    assert!(range.plan(Some(1)).is_err());
    let mut session = range.plan(None).unwrap().session().unwrap();
    for (count, expected) in [(8, Ok(())), (9, Err("outputs: expected at most 64 bytes, got 72")), (3, Ok(()))] {
        let InputBuffer::Plain(buffer) = session.input(0, &[]).unwrap() else { panic!("not numbers") };
        buffer.copy_from_slice(&i64::to_le_bytes(count));
        let outcome = session.run().map_err(|error| error.to_string());
        assert_eq!(outcome, expected.map_err(str::to_owned), "{count}");
    }
}
