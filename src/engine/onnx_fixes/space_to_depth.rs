//! SpaceToDepth by column. The library knows only the order by depth, and does not look which one is asked for.

use tract_onnx::{model::ParsingContext, pb::NodeProto, tract_hir::internal::*};

use super::{
    Built,
    amended::{Rewire, Wired, amended},
    built, original,
};

/// `SpaceToDepth`, with `mode` since version 28.
pub(super) fn space_to_depth(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let mode: Option<String> = node.get_attr_opt("mode")?;
    match mode.as_deref().unwrap_or("DCR") {
        "DCR" => built(context, node),
        "CRD" => {
            let block: usize = node.get_attr("blocksize")?;
            ensure!(block > 0, "attribute 'blocksize': expected at least 1, got 0");
            Ok((amended(original(context, node)?, ByColumn { block }), vec![]))
        }
        other => bail!("attribute 'mode': there is no mode '{other}'"),
    }
}

#[derive(Clone, Debug)]
struct ByColumn {
    block: usize,
}

impl Rewire for ByColumn {
    fn wire(&self, _: &dyn Expansion, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> Wired {
        let shape = model.outlet_fact(inputs[0])?.shape.to_tvec();
        let [_, channels, height, width] = &shape[..] else {
            bail!("expected an input of 4 dimensions, got {}", shape.len());
        };
        let block = self.block.to_dim();
        let halves = |size: &TDim| tvec![size.clone() / self.block, block.clone()];
        // [rows, channels, height, block, width, block], then both blocks beside the channels.
        let steps = [
            AxisOp::Reshape(3, tvec![width.clone()], halves(width)),
            AxisOp::Reshape(2, tvec![height.clone()], halves(height)),
            AxisOp::Move(3, 2),
            AxisOp::Move(5, 3),
            AxisOp::Reshape(
                1,
                tvec![channels.clone(), block.clone(), block.clone()],
                tvec![channels.clone() * self.block * self.block],
            ),
        ];
        let mut wire: TVec<OutletId> = inputs.into();
        for (number, step) in steps.into_iter().enumerate() {
            wire = model.wire_node(format!("{prefix}.{number}"), step, &wire)?;
        }
        Ok(wire)
    }
}
