"""Families of LightGBM and XGBoost, exported by onnxmltools. Called by make.py."""

import lightgbm
import numpy as np
import xgboost
from fitted import tidy
from onnxmltools import convert_lightgbm, convert_xgboost
from onnxmltools.convert.common.data_types import FloatTensorType
from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost as xgboost_converter
from skl2onnx import convert_sklearn, update_registered_converter
from skl2onnx.common import data_types as skl2onnx_types
from skl2onnx.common.shape_calculator import calculate_linear_regressor_output_shapes
from sklearn_models import HELD, cancer, diabetes, wine, with_gaps

OPSET = 15


def boosted(estimator, data, convert, **options):
    def build():
        rows, target = data()
        ranks = type(estimator).__name__.endswith("Ranker")
        # A ranker learns the order within groups; ten rows each, and five degrees of relevance.
        count = (len(rows) - HELD) // 10 * 10
        if ranks:
            target = np.digitize(target, np.quantile(target, [0.2, 0.4, 0.6, 0.8]))
        groups = {"group": [10] * (count // 10)} if ranks else {}
        estimator.fit(rows[:count], target[:count], **groups)
        inputs = [("x", FloatTensorType([None, rows.shape[1]]))]
        made = convert(estimator, "model", inputs, target_opset=OPSET, **options)
        return tidy(made), {"x": rows[-HELD:]}

    return build


def light_ranker(estimator, model, inputs, target_opset):
    """A ranker's scores are the sums of its trees, as those of a regressor, which is what the exporter knows."""
    text = estimator.booster_.model_to_string().replace("objective=lambdarank", "objective=regression")
    return convert_lightgbm(lightgbm.Booster(model_str=text), model, inputs, target_opset=target_opset)


def extreme_ranker(estimator, model, inputs, target_opset):
    """The same, with the converter for regressors."""
    update_registered_converter(
        xgboost.XGBRanker, "XGBRanker", calculate_linear_regressor_output_shapes, xgboost_converter
    )
    inputs = [(name, skl2onnx_types.FloatTensorType(kind.shape)) for name, kind in inputs]
    return convert_sklearn(estimator, model, inputs, target_opset={"": target_opset, "ai.onnx.ml": 3})


def light(estimator, data, **options):
    return boosted(estimator, data, convert_lightgbm, **options)


def extreme(estimator, data):
    return boosted(estimator, data, convert_xgboost)


LIGHT = {"n_estimators": 25, "num_leaves": 12, "random_state": 0, "n_jobs": 1, "verbose": -1}
EXTREME = {"n_estimators": 25, "max_depth": 4, "random_state": 0, "n_jobs": 1}

FAMILIES = {
    "lightgbm-binary": ("LGBMClassifier", light(lightgbm.LGBMClassifier(**LIGHT), cancer, zipmap=False)),
    "lightgbm-zipmap": ("LGBMClassifier with ZipMap", light(lightgbm.LGBMClassifier(**LIGHT), cancer)),
    "lightgbm-multiclass": ("LGBMClassifier, three classes", light(
        lightgbm.LGBMClassifier(**{**LIGHT, "n_estimators": 12}), wine, zipmap=False)),
    "lightgbm-gaps": ("LGBMClassifier with missing values", light(
        lightgbm.LGBMClassifier(**LIGHT), with_gaps(cancer), zipmap=False)),
    "lightgbm-regressor": ("LGBMRegressor", light(lightgbm.LGBMRegressor(**LIGHT), diabetes)),
    "lightgbm-ranker": ("LGBMRanker", boosted(lightgbm.LGBMRanker(**LIGHT), diabetes, light_ranker)),
    "xgboost-binary": ("XGBClassifier", extreme(xgboost.XGBClassifier(**EXTREME), cancer)),
    "xgboost-multiclass": ("XGBClassifier, three classes", extreme(
        xgboost.XGBClassifier(**{**EXTREME, "n_estimators": 12}), wine)),
    "xgboost-gaps": ("XGBClassifier with missing values", extreme(xgboost.XGBClassifier(**EXTREME), with_gaps(cancer))),
    "xgboost-regressor": ("XGBRegressor", extreme(xgboost.XGBRegressor(**EXTREME), diabetes)),
    "xgboost-ranker": ("XGBRanker", boosted(xgboost.XGBRanker(**EXTREME), diabetes, extreme_ranker)),
    "xgboost-forest": ("XGBRFRegressor", extreme(xgboost.XGBRFRegressor(**EXTREME), diabetes)),
}
