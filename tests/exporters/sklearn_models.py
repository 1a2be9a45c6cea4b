"""Families of scikit-learn, exported by skl2onnx. Called by make.py."""

import numpy as np
from fitted import OPSETS, tidy
from onnx import helper
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType, Int64TensorType, StringTensorType
from sklearn import (
    cluster, compose, covariance, cross_decomposition, datasets, decomposition, discriminant_analysis, dummy, ensemble,
    feature_extraction, feature_selection, gaussian_process, impute, linear_model, mixture, naive_bayes, neighbors,
    neural_network, pipeline, preprocessing, svm, tree,
)
from sklearn.calibration import CalibratedClassifierCV

HELD = 40  # rows that are not used for fitting
OPTIONS = {"zipmap": False}


def shuffled(load):
    rows, target = load(return_X_y=True)
    order = np.random.default_rng(7).permutation(len(rows))
    return rows[order].astype(np.float32), target[order]


def cancer():
    return shuffled(datasets.load_breast_cancer)


def wine():
    return shuffled(datasets.load_wine)


def iris():
    return shuffled(datasets.load_iris)


def digits():
    return shuffled(datasets.load_digits)


def diabetes():
    return shuffled(datasets.load_diabetes)


def fitted(estimator, data, options=None, opsets=OPSETS):
    """Fits on all rows but the last, exports, and gives those that were held back."""

    def build():
        rows, target = data()
        estimator.fit(rows[:-HELD], target[:-HELD])
        classifies = hasattr(estimator, "classes_") and options is None
        inputs = [("x", FloatTensorType([None, rows.shape[1]]))]
        chosen = {id(estimator): OPTIONS} if classifies else options
        made = convert_sklearn(estimator, "model", inputs, options=chosen, target_opset=opsets)
        return tidy(made), {"x": rows[-HELD:]}

    return build


def transformed(transformer, data):
    """The same for what only transforms."""
    return fitted(transformer, data, options={})


def scaled(estimator):
    return pipeline.make_pipeline(preprocessing.StandardScaler(), estimator)


def with_gaps(data, share=0.1):
    """Data with missing values."""

    def load():
        rows, target = data()
        rows = rows.copy()
        rows[np.random.default_rng(3).random(rows.shape) < share] = np.nan
        return rows, target

    return load


def named(data, names):
    """Data whose classes have names."""

    def load():
        rows, target = data()
        return rows, np.array(names)[target]

    return load


def counts(data):
    """Data of small whole numbers."""

    def load():
        rows, target = data()
        return np.floor(rows).astype(np.float32), target

    return load


# ---- tables of several types -----------------------------------------------------------------------------------------


def mixed_columns():
    """Numbers with gaps, and two columns of texts, each an input of its own."""
    rows, target = wine()
    size = np.where(rows[:, 0] > 13.5, "strong", np.where(rows[:, 0] > 12.5, "middle", "light"))
    colour = np.where(rows[:, 10] > 1.0, "deep", "pale")
    numbers = rows[:, 1:7].copy()
    numbers[np.random.default_rng(3).random(numbers.shape) < 0.1] = np.nan
    table = {"numbers": numbers, "size": size.reshape(-1, 1), "colour": colour.reshape(-1, 1)}
    return table, target


def column_transformer():
    import pandas

    table, target = mixed_columns()
    frame = pandas.DataFrame({f"n{i}": table["numbers"][:, i] for i in range(6)})
    frame["size"], frame["colour"] = table["size"][:, 0], table["colour"][:, 0]
    numeric = pipeline.make_pipeline(impute.SimpleImputer(strategy="median"), preprocessing.StandardScaler())
    columns = compose.ColumnTransformer(
        [
            ("numbers", numeric, [f"n{i}" for i in range(6)]),
            ("words", preprocessing.OneHotEncoder(handle_unknown="ignore"), ["size", "colour"]),
        ]
    )
    model = pipeline.make_pipeline(columns, linear_model.LogisticRegression(max_iter=1000))
    model.fit(frame[:-HELD], target[:-HELD])
    inputs = [(f"n{i}", FloatTensorType([None, 1])) for i in range(6)]
    inputs += [(name, StringTensorType([None, 1])) for name in ("size", "colour")]
    made = convert_sklearn(model, "model", inputs, options={id(model): OPTIONS}, target_opset=OPSETS)
    feeds = {f"n{i}": table["numbers"][-HELD:, i : i + 1] for i in range(6)}
    feeds |= {name: table[name][-HELD:].astype(object) for name in ("size", "colour")}
    return tidy(made), feeds


def words_only(encoder, estimator):
    def build():
        table, target = mixed_columns()
        words = np.concatenate([table["size"], table["colour"]], axis=1).astype(object)
        model = pipeline.make_pipeline(encoder, estimator)
        model.fit(words[:-HELD], target[:-HELD])
        inputs = [("words", StringTensorType([None, 2]))]
        made = convert_sklearn(model, "model", inputs, options={id(model): OPTIONS}, target_opset=OPSETS)
        return tidy(made), {"words": words[-HELD:]}

    return build


def whole_numbers():
    rows, target = digits()
    rows = rows[:, 18:46].astype(np.int64)
    model = pipeline.make_pipeline(
        preprocessing.OneHotEncoder(handle_unknown="ignore", sparse_output=False),
        linear_model.LogisticRegression(max_iter=300),
    )
    model.fit(rows[:-HELD], target[:-HELD])
    inputs = [("x", Int64TensorType([None, rows.shape[1]]))]
    made = convert_sklearn(model, "model", inputs, options={id(model): OPTIONS}, target_opset=OPSETS)
    return tidy(made), {"x": rows[-HELD:]}


def sentences():
    """What the bundled data sets say about themselves, by data set."""
    texts, target = [], []
    for number, load in enumerate([datasets.load_breast_cancer, datasets.load_wine, datasets.load_diabetes]):
        for line in load().DESCR.splitlines():
            words = [word.strip(".,:;()'\"`*=|<>-_").lower() for word in line.split()]
            words = [word for word in words if word.isalpha() and word.isascii()]
            if len(words) > 4:
                texts.append(" ".join(words))
                target.append(number)
    order = np.random.default_rng(7).permutation(len(texts))
    return np.array(texts, object)[order], np.array(target)[order]


def text(vectorizer, estimator):
    def build():
        texts, target = sentences()
        model = pipeline.make_pipeline(vectorizer, estimator)
        model.fit(texts[:-HELD], target[:-HELD])
        # Splitting at blanks is what the exporter can write without a pattern.
        options = {id(vectorizer): {"separators": [" "]}, id(model): OPTIONS}
        inputs = [("text", StringTensorType([None]))]
        made = convert_sklearn(model, "model", inputs, options=options, target_opset=OPSETS)
        for node in made.graph.node:
            if node.op_type == "StringNormalizer":
                # Else ONNX Runtime wants American English, which not every machine has.
                node.attribute.append(helper.make_attribute("locale", "C"))
        return tidy(made), {"text": texts[-HELD:]}

    return build


def zipped(estimator, data):
    """With the maps that the exporter writes unless told otherwise."""
    return fitted(estimator, data, options={})


FAMILIES = {
    # linear
    "linear-regression": ("LinearRegression", fitted(linear_model.LinearRegression(), diabetes)),
    "ridge": ("Ridge behind a scaler", fitted(scaled(linear_model.Ridge()), diabetes)),
    "elastic-net": ("ElasticNet on polynomial features", fitted(
        pipeline.make_pipeline(preprocessing.PolynomialFeatures(2), linear_model.ElasticNet(alpha=0.1)), diabetes)),
    "bayesian-ridge": ("BayesianRidge", fitted(linear_model.BayesianRidge(), diabetes)),
    "poisson": ("PoissonRegressor", fitted(linear_model.PoissonRegressor(), diabetes)),
    "pls": ("PLSRegression", fitted(cross_decomposition.PLSRegression(3), diabetes)),
    "logistic-binary": ("LogisticRegression, two classes, behind a scaler", fitted(
        scaled(linear_model.LogisticRegression()), cancer)),
    "logistic-multiclass": ("LogisticRegression, named classes", fitted(
        scaled(linear_model.LogisticRegression()), named(wine, ["barolo", "grignolino", "barbera"]))),
    "logistic-zipmap": ("LogisticRegression with ZipMap", zipped(scaled(linear_model.LogisticRegression()), iris)),
    "sgd": ("SGDClassifier, modified huber", fitted(
        scaled(linear_model.SGDClassifier(loss="modified_huber", random_state=0)), wine)),
    "ridge-classifier": ("RidgeClassifier", fitted(linear_model.RidgeClassifier(), iris)),
    "lda": ("LinearDiscriminantAnalysis", fitted(discriminant_analysis.LinearDiscriminantAnalysis(), wine)),
    "qda": ("QuadraticDiscriminantAnalysis", fitted(
        scaled(discriminant_analysis.QuadraticDiscriminantAnalysis()), iris)),
    # trees and forests
    "tree-classifier": ("DecisionTreeClassifier", fitted(tree.DecisionTreeClassifier(max_depth=5, random_state=0), cancer)),
    "tree-regressor": ("DecisionTreeRegressor", fitted(tree.DecisionTreeRegressor(max_depth=5, random_state=0), diabetes)),
    "forest-classifier": ("RandomForestClassifier, ten classes", fitted(
        ensemble.RandomForestClassifier(12, max_depth=6, random_state=0), digits)),
    "forest-regressor": ("RandomForestRegressor", fitted(
        ensemble.RandomForestRegressor(20, max_depth=5, random_state=0), diabetes)),
    "extra-trees": ("ExtraTreesClassifier", fitted(ensemble.ExtraTreesClassifier(20, max_depth=5, random_state=0), wine)),
    "isolation-forest": ("IsolationForest", fitted(
        ensemble.IsolationForest(n_estimators=20, max_samples=64, random_state=0), cancer, options={})),
    # boosting and ensembles of anything
    "gradient-boosting-binary": ("GradientBoostingClassifier", fitted(
        ensemble.GradientBoostingClassifier(n_estimators=30, random_state=0), cancer)),
    "gradient-boosting-multiclass": ("GradientBoostingClassifier, three classes", fitted(
        ensemble.GradientBoostingClassifier(n_estimators=10, random_state=0), wine)),
    "gradient-boosting-regressor": ("GradientBoostingRegressor", fitted(
        ensemble.GradientBoostingRegressor(n_estimators=30, random_state=0), diabetes)),
    "hist-boosting-classifier": ("HistGradientBoostingClassifier with missing values", fitted(
        ensemble.HistGradientBoostingClassifier(max_iter=15, max_leaf_nodes=12, random_state=0), with_gaps(cancer))),
    "hist-boosting-regressor": ("HistGradientBoostingRegressor", fitted(
        ensemble.HistGradientBoostingRegressor(max_iter=20, max_leaf_nodes=12, random_state=0), diabetes)),
    "ada-boost-classifier": ("AdaBoostClassifier", fitted(ensemble.AdaBoostClassifier(n_estimators=10, random_state=0), iris)),
    "ada-boost-regressor": ("AdaBoostRegressor", fitted(ensemble.AdaBoostRegressor(n_estimators=8, random_state=0), diabetes)),
    "bagging": ("BaggingClassifier of trees", fitted(
        ensemble.BaggingClassifier(tree.DecisionTreeClassifier(max_depth=4), 8, random_state=0), wine)),
    "voting": ("VotingClassifier, soft", fitted(ensemble.VotingClassifier(
        [("lr", linear_model.LogisticRegression(max_iter=500)), ("nb", naive_bayes.GaussianNB()),
         ("dt", tree.DecisionTreeClassifier(max_depth=3, random_state=0))], voting="soft", flatten_transform=False), iris)),
    "stacking": ("StackingClassifier", fitted(ensemble.StackingClassifier(
        [("rf", ensemble.RandomForestClassifier(8, max_depth=4, random_state=0)), ("svc", scaled(svm.SVC()))],
        linear_model.LogisticRegression()), iris)),
    "calibrated": ("CalibratedClassifierCV of LogisticRegression", fitted(
        CalibratedClassifierCV(scaled(linear_model.LogisticRegression()), cv=3), cancer)),
    # support vectors, neighbours, naive Bayes
    "svc-rbf": ("SVC, rbf, probabilities", fitted(scaled(svm.SVC(probability=True, random_state=0)), wine)),
    "svc-linear": ("SVC, linear, decisions", fitted(scaled(svm.SVC(kernel="linear")), cancer)),
    "nu-svc-poly": ("NuSVC, polynomial", fitted(scaled(svm.NuSVC(kernel="poly", probability=True, random_state=0)), iris)),
    "svr": ("SVR", fitted(scaled(svm.SVR(C=10)), diabetes)),
    "one-class-svm": ("OneClassSVM", fitted(scaled(svm.OneClassSVM(nu=0.2)), wine, options={})),
    "knn-classifier": ("KNeighborsClassifier", fitted(scaled(neighbors.KNeighborsClassifier(5)), iris)),
    "knn-regressor": ("KNeighborsRegressor, by distance", fitted(
        neighbors.KNeighborsRegressor(4, weights="distance"), diabetes)),
    "gaussian-nb": ("GaussianNB", fitted(naive_bayes.GaussianNB(), wine)),
    "bernoulli-nb": ("BernoulliNB", fitted(naive_bayes.BernoulliNB(binarize=7.5), digits)),
    "multinomial-nb": ("MultinomialNB", fitted(naive_bayes.MultinomialNB(), counts(digits))),
    # neural networks and what is not a classifier
    "mlp-classifier": ("MLPClassifier", fitted(
        scaled(neural_network.MLPClassifier((24, 12), max_iter=400, random_state=0)), digits)),
    "mlp-regressor": ("MLPRegressor, tanh", fitted(
        scaled(neural_network.MLPRegressor(hidden_layer_sizes=(16,), activation="tanh", max_iter=400, random_state=0)), diabetes)),
    "gaussian-process": ("GaussianProcessRegressor", fitted(
        scaled(gaussian_process.GaussianProcessRegressor(gaussian_process.kernels.RBF(2.0), alpha=0.5)), iris, options={})),
    "k-means": ("KMeans", fitted(cluster.KMeans(4, random_state=0, n_init=3), iris, options={})),
    "gaussian-mixture": ("GaussianMixture", fitted(scaled(mixture.GaussianMixture(3, random_state=0)), iris, options={})),
    "pca": ("PCA and TruncatedSVD side by side", transformed(pipeline.make_pipeline(
        preprocessing.StandardScaler(), pipeline.FeatureUnion(
            [("pca", decomposition.PCA(4)), ("svd", decomposition.TruncatedSVD(3, random_state=0))])), wine)),
    "kernel-pca": ("KernelPCA", transformed(scaled(decomposition.KernelPCA(3, kernel="rbf", gamma=0.05)), iris)),
    # preparation
    "imputer": ("SimpleImputer, MinMaxScaler, SelectKBest, logistic", fitted(pipeline.make_pipeline(
        impute.SimpleImputer(), preprocessing.MinMaxScaler(), feature_selection.SelectKBest(k=5),
        linear_model.LogisticRegression()), with_gaps(wine))),
    "knn-imputer": ("KNNImputer", fitted(
        impute.KNNImputer(n_neighbors=3), with_gaps(iris), options={}, opsets={"": 18, "ai.onnx.ml": 3})),
    "bins": ("KBinsDiscretizer, one-hot", transformed(
        preprocessing.KBinsDiscretizer(4, encode="onehot-dense", strategy="uniform"), wine)),
    "robust-power": ("RobustScaler and PowerTransformer", transformed(
        pipeline.make_pipeline(preprocessing.RobustScaler(), preprocessing.PowerTransformer()), wine)),
    "column-transformer": ("ColumnTransformer over numbers and texts", column_transformer),
    "one-hot-strings": ("OneHotEncoder on texts, logistic", words_only(
        preprocessing.OneHotEncoder(handle_unknown="ignore"), linear_model.LogisticRegression())),
    "ordinal-strings": ("OrdinalEncoder on texts, forest", words_only(
        preprocessing.OrdinalEncoder(), ensemble.RandomForestClassifier(8, max_depth=3, random_state=0))),
    "one-hot-integers": ("OneHotEncoder on integers, logistic", whole_numbers),
    "tf-idf": ("TfidfVectorizer, logistic", text(
        feature_extraction.text.TfidfVectorizer(), linear_model.LogisticRegression())),
    "count-bigrams": ("CountVectorizer of one and two words, naive Bayes", text(
        feature_extraction.text.CountVectorizer(ngram_range=(1, 2), min_df=2), naive_bayes.MultinomialNB())),
}
