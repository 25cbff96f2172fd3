"""Losses of a user's own, as files: one that is good, and for each rule of the contract one that breaks it."""

IMPORTS = """
import torch
import torch.nn.functional as F
from optuna.distributions import CategoricalDistribution, FloatDistribution

from search_spaces import SCALE, Parameter, SearchSpace
from trainables.losses import ClassifierLoss

"""
GOOD = f"""{IMPORTS}
class Mine(ClassifierLoss):
    search_space = SearchSpace("mine", own=(SCALE, Parameter("margin", FloatDistribution(0.0, 0.4))))

    def __init__(self, embedding_dim, num_classes, *, scale, margin, label_smoothing=0.0):
        super().__init__(embedding_dim, num_classes, label_smoothing=label_smoothing)
        self.scale, self.margin = scale, margin
        self.weight = torch.nn.Parameter(torch.randn(num_classes, embedding_dim))

    def cosine(self, embeddings):
        return F.linear(F.normalize(embeddings.float()), F.normalize(self.weight))

    def logits(self, embeddings):
        return self.scale * self.cosine(embeddings)

    def forward(self, embeddings, labels):
        margin = self.scale * self.margin * F.one_hot(labels, self.num_classes)
        return F.cross_entropy(self.logits(embeddings) - margin, labels, label_smoothing=self.label_smoothing)
"""


def changed(**methods: str) -> str:
    """Return the good loss with methods replaced by others, each written without the indentation of a class."""
    lines = []
    for body in methods.values():
        lines += ["", *(f"    {line}" if line else "" for line in body.strip("\n").split("\n"))]
    return GOOD + "\n".join(lines) + "\n"


COUNTED = """
def forward(self, embeddings, labels):
    self.steps = getattr(self, "steps", 0) + {what}
    return F.cross_entropy((1 + 0.1 * self.steps) * self.logits(embeddings), labels)
"""
# By what of the message names the rule.
BROKEN = {
    "its loss is not a scalar": changed(
        forward="""
def forward(self, embeddings, labels):
    return F.cross_entropy(self.logits(embeddings), labels, reduction="none")
"""
    ),
    "its loss is not a tensor": changed(forward="def forward(self, embeddings, labels):\n    return 1.0"),
    "its loss is float64": changed(
        forward="""
def forward(self, embeddings, labels):
    return F.cross_entropy(self.logits(embeddings).double(), labels)
"""
    ),
    "its loss is nan": changed(
        forward="""
def forward(self, embeddings, labels):
    return F.cross_entropy(self.logits(embeddings), labels) / 0 * 0
"""
    ),
    "its logits must have the shape": changed(
        logits="def logits(self, embeddings):\n    return self.cosine(embeddings).max(1).values",
        forward="def forward(self, embeddings, labels):\n    return F.cross_entropy(self.cosine(embeddings), labels)",
    ),
    "no gradient reaches the embeddings": changed(
        forward="""
def forward(self, embeddings, labels):
    return F.cross_entropy(self.logits(embeddings.detach()), labels) + 0 * embeddings.float().sum()
"""
    ),
    "is not finite where the cosine to the own class is": changed(
        forward="""
def forward(self, embeddings, labels):
    angle = torch.acos(self.cosine(embeddings))
    return F.cross_entropy(self.scale * torch.cos(angle + 0.1 * F.one_hot(labels, self.num_classes)), labels)
"""
    ),
    "is not finite where an embedding is zero": changed(
        forward="""
def forward(self, embeddings, labels):
    unit = embeddings.float() / embeddings.float().norm(dim=1, keepdim=True)
    return F.cross_entropy(self.scale * F.linear(unit, self.weight), labels)
"""
    ),
    "is not finite where all images of a batch are of one class": changed(
        forward="""
def forward(self, embeddings, labels):
    others = len(labels.unique()) - 1
    return F.cross_entropy(self.logits(embeddings), labels) * (torch.tensor(1.0) / others)
"""
    ),
    "it changes in eval(): the same batch gives": changed(forward=COUNTED.format(what="1")),
    "it changes in eval(), or in logits: seen": changed(
        forward="""
def forward(self, embeddings, labels):
    if not hasattr(self, "seen"):
        self.register_buffer("seen", torch.zeros(()))
    self.seen += 1
    return F.cross_entropy(self.logits(embeddings), labels)
"""
    ),
    "the logits of an image depend on the others of its batch": changed(
        logits="def logits(self, embeddings):\n    return self.cosine(embeddings) + torch.rand(())",
        forward="def forward(self, embeddings, labels):\n    return F.cross_entropy(self.cosine(embeddings), labels)",
    ),
    "its state is lost in a checkpoint: it goes on": changed(forward=COUNTED.format(what="int(self.training)")),
    "its state cannot be read back": changed(
        forward="""
def forward(self, embeddings, labels):
    if self.training:
        self.register_buffer(f"step{len(list(self.buffers()))}", torch.zeros(()))
    return F.cross_entropy(self.logits(embeddings), labels)
"""
    ),
    "differ from time to time": changed(
        _Mine__unused="def fresh(self):\n    import os\n    return int.from_bytes(os.urandom(4), 'big')"
    ).replace(
        "torch.randn(num_classes, embedding_dim)",
        "torch.randn(num_classes, embedding_dim, generator=torch.Generator().manual_seed(self.fresh()))",
    ),
    "its loss does not depend on it": GOOD.replace(", label_smoothing=self.label_smoothing)", ")"),
    "its diagnostics() must be a dict": changed(diagnostics="def diagnostics(self):\n    return {'margin': 0.1}"),
    "its diagnostics() must hold finite": changed(
        diagnostics="def diagnostics(self):\n    return {'margin_rad': torch.tensor(0.1), 'margin_raw_rad': 0.1}"
    ),
    "it goes on with a loss": changed(
        forward="""
def forward(self, embeddings, labels):
    self.steps = getattr(self, "steps", 0) + int(self.training)
    return F.cross_entropy((1 + (self.steps > 20)) * self.logits(embeddings), labels)
"""
    ),
    "Unexpected key": changed(
        forward="""
def forward(self, embeddings, labels):
    if self.training and not hasattr(self, "lazy"):
        self.register_buffer("lazy", torch.zeros(()))
    return F.cross_entropy(self.logits(embeddings), labels)
"""
    ),
    "it changes the embeddings or the labels": changed(
        forward="""
def forward(self, embeddings, labels):
    with torch.no_grad():
        embeddings.mul_(0.5)
    return F.cross_entropy(self.logits(embeddings), labels)
"""
    ),
    "it sets the seed of torch's global generator": changed(
        forward="""
def forward(self, embeddings, labels):
    torch.manual_seed(0)
    return F.cross_entropy(self.logits(embeddings), labels)
"""
    ),
    "the logits of an image depend on the others of": changed(
        logits="""
def logits(self, embeddings):
    found = self.cosine(embeddings)
    return found - found.mean(0)
"""
    ),
    "its logits differ from call to call": changed(
        logits="""
def logits(self, embeddings):
    self.calls = getattr(self, "calls", 0) + 1
    return self.cosine(embeddings) * (1 + (self.calls > 30))
""",
        forward="def forward(self, embeddings, labels):\n    return F.cross_entropy(self.cosine(embeddings), labels)",
    ),
    "it raises AssertionError": GOOD.replace(
        "        self.scale, self", "        assert num_classes == 5\n        self.scale, self"
    ),
    "it raises SystemExit": changed(forward="def forward(self, embeddings, labels):\n    raise SystemExit(0)"),
    "num_classes, scale=16.0, margin=0.2) raises SystemExit": (
        GOOD.replace("        self.scale, self", "        raise SystemExit(0)\n        self.scale, self")
    ),
    "it cannot be built from its search space: Mine(": GOOD.replace("*, scale, margin,", "*, scale, margin, further,"),
    "it raises KeyError: 'theta', where it is looked at whether its loss is": changed(
        forward="def forward(self, embeddings, labels):\n    return {}['theta']"
    ),
}
