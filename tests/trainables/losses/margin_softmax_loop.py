"""What a margin softmax computes, in plain Python numbers."""

import math


def looped_objective(embeddings, weight, labels, scale, margin_rad, label_smoothing=0.0):
    """The objective of a margin softmax, one sample and one class at a time, by way of angles."""
    total = 0.0
    for embedding, label in zip(embeddings, labels, strict=True):
        logits = []
        for j, row in enumerate(weight):
            dot = sum(w * x for w, x in zip(row, embedding, strict=True))
            cosine = dot / math.hypot(*row) / math.hypot(*embedding)
            theta = math.acos(max(-1.0, min(1.0, cosine)))
            if j != label:
                logits.append(scale * math.cos(theta))
            elif theta + margin_rad <= math.pi:
                logits.append(scale * math.cos(theta + margin_rad))
            else:
                logits.append(scale * (math.cos(theta) - 1.0 + math.cos(margin_rad)))
        log_sum = math.log(sum(math.exp(logit) for logit in logits))
        for j, logit in enumerate(logits):
            target = (1.0 - label_smoothing) * (j == label) + label_smoothing / len(weight)
            total -= target * (logit - log_sum)
    return total / len(labels)
