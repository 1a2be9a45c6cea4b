//! Labelled files of both kinds: what they give, and that whatever is wrong names the file and the column.

use super::*;
use crate::types::{DType, Data as Content};
use npyz::{WriterBuilder as _, npz::NpzWriter};
use std::io::Cursor;

fn spec(name: &str, dtype: DType, shape: &[Option<usize>]) -> TensorSpec {
    TensorSpec { name: name.into(), dtype, shape: shape.to_vec() }
}

fn table(text: &str) -> Result<Data, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.csv");
    fs::write(&path, text).unwrap();
    Data::open(&path).map_err(|failure| failure.text.replace(&*folder.path().to_string_lossy(), ""))
}

struct Arrays(NpzWriter<Cursor<Vec<u8>>>);

impl Arrays {
    fn new() -> Self {
        Self(NpzWriter::new(Cursor::new(Vec::new())))
    }

    fn with<T: npyz::AutoSerialize + Copy>(mut self, name: &str, shape: &[u64], values: &[T]) -> Self {
        let array = self.0.array(name, Default::default()).unwrap();
        let mut writer = array.default_dtype().shape(shape).begin_nd().unwrap();
        writer.extend(values.iter().copied()).unwrap();
        writer.finish().unwrap();
        self
    }

    fn open(mut self) -> Result<Data, String> {
        let bytes = self.0.zip_writer().finish().unwrap().into_inner();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.npz");
        fs::write(&path, bytes).unwrap();
        Data::open(&path).map_err(|failure| failure.text.replace(&*folder.path().to_string_lossy(), ""))
    }
}

fn wrong(result: Result<Tensor, Failure>) -> String {
    let text = result.unwrap_err().text;
    text[text.find("rows.").unwrap()..].to_owned()
}

#[test]
fn columns_of_a_table() {
    let data = table(
        "\u{feff}label, x[1], x[0], n, s, flag, y.0, y.1\n 3 ,1.5,-2,7,a b,true,1,2\n4.0,nan,1e3,-8,\"c,d\",0,3,4\n",
    )
    .unwrap();
    assert_eq!(data.rows(), 2);
    let x = data.input(&spec("x", DType::Fp32, &[None, Some(2)])).unwrap();
    assert_eq!((x.shape(), &x.to_f32().unwrap()[..3]), (&[2, 2][..], &[-2.0, 1.5, 1000.0][..]));
    assert!(x.to_f32().unwrap()[3].is_nan());
    for shape in [&[None][..], &[None, Some(1)], &[None, None]] {
        let n = data.input(&spec("n", DType::Int8, shape)).unwrap();
        assert_eq!((n.shape().len(), n.to_f32().unwrap()), (shape.len(), vec![7.0, -8.0]));
    }
    let y = data.input(&spec("y", DType::Uint16, &[None, Some(1), None])).unwrap();
    assert_eq!((y.shape(), y.to_f32().unwrap()), (&[2, 1, 2][..], vec![1.0, 2.0, 3.0, 4.0]));
    let s = data.input(&spec("s", DType::Bytes, &[None])).unwrap();
    assert!(matches!(s.data(), Content::Strings(items) if items[..] == ["a b", "c,d"]));
    assert_eq!(data.input(&spec("flag", DType::Bool, &[None])).unwrap().bytes()[..], [1, 0]);
    assert_eq!(data.right(&Classes::Numbers(vec![Some(3), Some(3)])), Ok(vec![true, false]));
    assert_eq!(data.right(&Classes::Texts(vec!["3".into(), "4.0".into()])), Ok(vec![true, true]));
}

#[test]
fn what_is_wrong_with_a_table() {
    for (text, expected) in [
        ("", "/rows.csv: column 'label': not found: expected the right class of every row, got ''"),
        ("a,b\n1,2\n", "/rows.csv: column 'label': not found: expected the right class of every row, got 'a', 'b'"),
        ("label,a\n", "/rows.csv: expected labelled rows, got none"),
        ("label,a,a\n1,2,3\n", "/rows.csv: column 'a': given twice"),
        ("label,a\n1,2\n,3\n", "/rows.csv: column 'label': line 3: expected a class, got nothing"),
    ] {
        assert_eq!(table(text).unwrap_err(), expected);
    }
    assert!(table("label,a\n1\n").unwrap_err().contains("line: 2"));
    let data = table("label,a,b[0],b[1],b[3],c.0,c[0]\n1,x,1,2,3,1,1\n").unwrap();
    let one = |name: &str, dtype| wrong(data.input(&spec(name, dtype, &[None])));
    assert_eq!(one("a", DType::Fp32), "rows.csv: column 'a': line 2: expected FP32, got 'x'");
    assert_eq!(one("a", DType::Bool), "rows.csv: column 'a': line 2: expected BOOL, got 'x'");
    assert_eq!(one("b", DType::Fp32), "rows.csv: column 'b[2]': not found, although there are later ones");
    assert_eq!(one("c", DType::Fp32), "rows.csv: column 'c[0]': given twice");
    assert_eq!(
        one("pixels", DType::Fp32),
        "rows.csv: column 'pixels': not found: expected 'pixels', or 'pixels[0]', 'pixels[1]', … for shape [-1], got \
         'label', 'a', 'b[0]', 'b[1]', 'b[3]', 'c.0', 'c[0]'"
    );
    let data = table("label,a[0],a[1],n\ncat,1,2,300\n").unwrap();
    let shaped = |shape: &[Option<usize>]| wrong(data.input(&spec("a", DType::Fp32, shape)));
    assert_eq!(shaped(&[None, Some(3)]), "rows.csv: column 'a': shape: expected [-1, 3], got 2 a row");
    assert_eq!(shaped(&[None, Some(3), None]), "rows.csv: column 'a': shape: expected [-1, 3, -1], got 2 a row");
    assert_eq!(shaped(&[None, None, None]), "rows.csv: column 'a': shape: expected [-1, -1, -1], got 2 a row");
    let narrow = wrong(data.input(&spec("n", DType::Uint8, &[None])));
    assert_eq!(narrow, "rows.csv: column 'n': line 2: expected UINT8, got '300'");
    let label = data.right(&Classes::Numbers(vec![Some(1)])).unwrap_err().text;
    assert!(
        label.ends_with(
            "rows.csv: column 'label': line 2: expected an integer, which is what the stages answer, got 'cat'"
        ),
        "{label}"
    );
}

#[test]
fn arrays_are_taken_in_the_models_datatype() {
    let data = Arrays::new()
        .with("label", &[2, 1], &[3_i32, -1])
        .with("x", &[2, 2], &[0.5_f64, 1.0, 2.0, -4.0])
        .with("bytes", &[2, 2], &[0_u8, 16, 255, 3])
        .with("column", &[2, 1], &[7_i64, 8])
        .open()
        .unwrap();
    assert_eq!(data.rows(), 2);
    for dtype in [DType::Fp16, DType::Bf16, DType::Fp32, DType::Fp64] {
        let x = data.input(&spec("x", dtype, &[None, Some(2)])).unwrap();
        assert_eq!((x.dtype(), x.to_f32().unwrap()), (dtype, vec![0.5, 1.0, 2.0, -4.0]));
        let pixels = data.input(&spec("bytes", dtype, &[None, None])).unwrap();
        assert_eq!(pixels.to_f32().unwrap()[1..3], [16.0, 255.0]);
    }
    assert_eq!(data.input(&spec("column", DType::Int16, &[None])).unwrap().shape(), [2]);
    assert_eq!(data.right(&Classes::Numbers(vec![Some(3), None])), Ok(vec![true, false]));
    assert_eq!(data.right(&Classes::Texts(vec!["3".into(), "1".into()])), Ok(vec![true, false]));
}

#[test]
fn what_is_wrong_with_arrays() {
    let labels = |shape: &[u64], values: &[f64]| Arrays::new().with("label", shape, values).open().map(|_| ());
    assert_eq!(labels(&[2], &[1.0, 2.0]), Ok(()));
    assert_eq!(
        labels(&[1, 2], &[1.0, 2.0]).unwrap_err(),
        "/rows.npz: column 'label': shape: expected [-1], got [1, 2]"
    );
    assert_eq!(
        labels(&[2], &[1.0, 2.5]).unwrap_err(),
        "/rows.npz: column 'label': row 1: expected an integer, got 2.5"
    );
    assert_eq!(labels(&[0], &[]).unwrap_err(), "/rows.npz: expected labelled rows, got none");
    let unlabelled = Arrays::new().with("a", &[1], &[1_i64]).open().unwrap_err();
    assert_eq!(unlabelled, "/rows.npz: column 'label': not found: expected the right class of every row, got 'a'");
    let data = Arrays::new()
        .with("label", &[2], &[1_i64, 2])
        .with("x", &[2, 3], &[0.5_f32; 6])
        .with("n", &[2], &[300_i64, 1])
        .with("short", &[1], &[1.0_f32])
        .open()
        .unwrap();
    let input = |name: &str, dtype, shape: &[Option<usize>]| wrong(data.input(&spec(name, dtype, shape)));
    assert_eq!(input("x", DType::Fp32, &[None, Some(2)]), "rows.npz: column 'x': shape: expected [-1, 2], got [2, 3]");
    assert_eq!(input("x", DType::Int64, &[None, None]), "rows.npz: column 'x': datatype: expected INT64, got FP32");
    assert_eq!(input("x", DType::Bytes, &[None, None]), "rows.npz: column 'x': datatype: expected BYTES, got FP32");
    assert_eq!(
        input("n", DType::Int8, &[None]),
        "rows.npz: column 'n': expected INT8, got 300, which is out of its range"
    );
    assert_eq!(input("short", DType::Fp32, &[None]), "rows.npz: column 'short': rows: expected 2 as in 'label', got 1");
    assert_eq!(
        input("y", DType::Fp32, &[None]),
        "rows.npz: column 'y': not found: expected an array of shape [-1], got 'label', 'n', 'short', 'x'"
    );
}

#[test]
fn files_that_are_none() {
    let folder = tempfile::tempdir().unwrap();
    let text = |name: &str, content: &[u8]| {
        fs::write(folder.path().join(name), content).unwrap();
        Data::open(&folder.path().join(name)).unwrap_err().text
    };
    assert!(text("rows.txt", b"label\n1\n").ends_with("rows.txt: expected a file that ends in .csv or .npz"));
    assert!(text("rows.npz", b"PK").contains("rows.npz: not a good .npz file: "));
    assert!(text("rows.csv", b"label\n\xff\n").contains("rows.csv: "));
    let absent = Data::open(Path::new("/absent/rows.csv")).unwrap_err().text;
    assert!(absent.starts_with("/absent/rows.csv: "), "{absent}");
}
