"""The losses that watch their batches, in plain Python numbers and from their papers' equations, a sample at a time.

Each has three steps: `begin` with what a batch says before its loss, `objective`, a function of numbers alone that can
be differenced, and `end` with what the batch says afterwards.
"""

import math
import statistics

from scipy.stats import norm


def cosines_of(embedding, weight):
    return [
        sum(w * x for w, x in zip(row, embedding, strict=True)) / math.hypot(*row) / math.hypot(*embedding)
        for row in weight
    ]


def angular(cosine, margin_rad):
    theta = math.acos(max(-1.0, min(1.0, cosine)))
    if theta + margin_rad <= math.pi:
        return math.cos(theta + margin_rad)
    return cosine - 1.0 + math.cos(margin_rad)


class Loop:
    """Cross-entropy over scaled cosines; a subclass says what becomes of them."""

    def __init__(self, loss, classes, dim):
        self.loss, self.classes, self.dim = loss, classes, dim
        self.step = 0

    @property
    def scale(self):
        return self.loss.scale

    def changed(self, cosines, y, place):
        """The cosines of the sample at a place of the batch, with the margin in them."""
        raise NotImplementedError

    def objective(self, embeddings, weight, labels):
        total = 0.0
        for place, (x, y) in enumerate(zip(embeddings, labels, strict=True)):
            logits = [self.scale * c for c in self.changed(cosines_of(x, weight), y, place)]
            total += math.log(sum(math.exp(z - logits[y]) for z in logits))
        return total / len(labels)

    def begin(self, embeddings, weight, labels):
        pass

    def end(self, embeddings, weight, labels):
        self.step += 1

    def with_target(self, cosines, y, value):
        return [value if j == y else c for j, c in enumerate(cosines)]


class CosFace(Loop):
    def changed(self, cosines, y, place):
        return self.with_target(cosines, y, cosines[y] - self.loss.margin)


class AdaCos(Loop):
    """s_t = log(B_t) / cos(min(pi / 4, median angle)), B_t with s_{t-1}."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.s = math.sqrt(2) * math.log(self.classes - 1)

    scale = property(lambda self: self.s)

    def changed(self, cosines, y, place):
        return cosines

    def begin(self, embeddings, weight, labels):
        total, angles = 0.0, []
        for x, y in zip(embeddings, labels, strict=True):
            cosines = cosines_of(x, weight)
            total += sum(math.exp(self.s * c) for j, c in enumerate(cosines) if j != y)
            angles.append(math.acos(cosines[y]))
        self.s = math.log(total / len(labels)) / math.cos(min(math.pi / 4, statistics.median(angles)))


class CurricularFace(Loop):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.t = 0.0

    def changed(self, cosines, y, place):
        target = angular(cosines[y], self.loss.margin_rad)
        return [target if j == y else c if target - c >= 0 else c * (self.t + c) for j, c in enumerate(cosines)]

    def begin(self, embeddings, weight, labels):
        mean = sum(cosines_of(x, weight)[y] for x, y in zip(embeddings, labels, strict=True)) / len(labels)
        momentum = 0.5 ** (1 / (self.loss.steps_per_epoch * self.loss.half_life_epochs))
        self.t = (1 - momentum) * mean + momentum * self.t


def splitmix64(seed, count):
    """The numbers that SplitMix64 gives, by the algorithm as it is published, with a state that is added to."""
    mask = (1 << 64) - 1
    state = seed & mask
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) & mask
        z = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        yield z ^ (z >> 31)


class Elastic(Loop):
    """Margins from N(m, sigma^2), by inversion."""

    seen = 0

    def begin(self, embeddings, weight, labels):
        bits = list(splitmix64(self.loss.noise_seed.item(), self.seen + len(labels)))[self.seen :]
        uniform = [((z >> 11) + 0.5) / 2**53 for z in bits]
        self.drawn = [max(0.0, self.mean + self.loss._std * float(norm.ppf(u))) for u in uniform]

    def end(self, embeddings, weight, labels):
        self.seen += len(labels)


class ElasticArc(Elastic):
    mean = property(lambda self: self.loss.margin_rad)

    def changed(self, cosines, y, place):
        return self.with_target(cosines, y, angular(cosines[y], self.drawn[place]))


class ElasticCos(Elastic):
    mean = property(lambda self: self.loss.margin)

    def changed(self, cosines, y, place):
        return self.with_target(cosines, y, cosines[y] - self.drawn[place])


class ByClass(Loop):
    """Bias-corrected averages of vectors, one a class, as sums of the samples with weights that decay."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.count = [0] * self.classes
        self.average = [None] * self.classes

    def changed(self, cosines, y, place):
        return self.with_target(cosines, y, angular(cosines[y], self.margins()[y]))

    def end(self, embeddings, weight, labels):
        self.step += 1
        elapsed = self.step / self.loss.steps_per_epoch
        for c in range(self.classes):
            values = [
                self.measured(x, weight, y) for x, y in zip(embeddings, labels, strict=True) if self.group(y) == c
            ]
            if not values:
                continue
            self.count[c] += len(values)
            means = [sum(column) / len(values) for column in zip(*values, strict=True)]
            decay = [0.5 ** (t / self.loss.half_life_epochs) for t in (elapsed * len(values) / self.count[c], elapsed)]
            share = (1 - decay[0]) / (1 - decay[1])
            old = self.average[c] or [0.0] * len(means)
            self.average[c] = [(1 - share) * a + share * b for a, b in zip(old, means, strict=True)]

    def group(self, y):
        return y

    def error_or_gap(self, x, weight, y):
        cosines = cosines_of(x, weight)
        gap = cosines[y] - max(c for j, c in enumerate(cosines) if j != y)
        return float(gap <= 0.0) if self.loss.difficulty == "error" else (2.0 - gap) / 4.0


class KappaFace(ByClass):
    def measured(self, x, weight, y):
        return [value / math.hypot(*x) for value in x]

    def margins(self):
        kappas = {}
        for c in range(self.classes):
            if self.count[c]:
                r = min(math.hypot(*self.average[c]), 0.999)
                kappas[c] = r * (self.dim - r**2) / (1 - r**2)
        mean = statistics.fmean(kappas.values()) if kappas else 0.0
        sd = statistics.pstdev(kappas.values()) if len(kappas) > 1 else 0.0
        margins = []
        for c in range(self.classes):
            standard = (kappas[c] - mean) / sd if c in kappas and sd else 0.0
            spread = 1 - 1 / (1 + math.exp(-self.loss.temperature * standard))
            often = self.count[c] / max(self.count) if any(self.count) else 0.0
            rare = (math.cos(math.pi * often) + 1) / 2
            psi = self.loss.gamma * rare + (1 - self.loss.gamma) * spread
            margins.append(psi * self.loss._margin_rad)
        return margins


class Relative(ByClass):
    def measured(self, x, weight, y):
        return [self.error_or_gap(x, weight, y)]

    def margins(self):
        seen = [average[0] for average in self.average if average]
        margins = []
        for average in self.average:
            share = 0.0
            if average:
                mean = statistics.fmean(seen)
                unit = max(mean, *(abs(q - mean) for q in seen))
                share = (average[0] - mean) / unit if unit else 0.0
            margins.append(self.loss._mean_margin_rad * (1 + self.loss.strength * share))
        return margins


class RelativePermuted(Relative):
    def margins(self):
        right = super().margins()
        return [right[c] for c in self.loss.permutation.tolist()]


class Trapezoid(Relative):
    def margins(self):
        loss, margins = self.loss, []
        for average in self.average:
            q = average[0] if average else 0.0
            if q < loss.plateau_from:
                height = q / loss.plateau_from
            elif q <= loss.plateau_until:
                height = 1.0
            else:
                height = max(0.0, 1 - (q - loss.plateau_until) / (loss.zero_from - loss.plateau_until))
            margins.append(height * loss._plateau_rad)
        return margins


class Quantile(ByClass):
    """AdaLoss's steps, driven by the share of samples whose angle gap is below the target."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.m = self.loss.margin_rad_at_start

    def group(self, y):
        return 0

    def measured(self, x, weight, y):
        angles = [math.acos(c) for c in cosines_of(x, weight)]
        gap = min(a for j, a in enumerate(angles) if j != y) - angles[y]
        return [float(gap < self.loss.target_angle_gap_rad), float(gap > 0)]

    def margins(self):
        competence = self.average[0][1] if self.average[0] else 0.0
        return [competence * self.m] * self.classes

    def end(self, embeddings, weight, labels):
        super().end(embeddings, weight, labels)
        loss, p, share = self.loss, self.loss.target_difficulty, self.average[0][0]
        rate = loss.rate_up_rad_per_epoch / (1 - p) if share > p else loss.rate_down_rad_per_epoch / p
        moved = self.m + rate * (share - p) / loss.steps_per_epoch
        self.m = min(max(moved, loss.margin_min_rad), loss.margin_max_rad)


class MR2(Loop):
    """Averages of a class are its mean embedding and, last, its mean squared length."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.epochs = [0.0] * self.classes
        self.averages = [None] * self.classes

    def begin(self, embeddings, weight, labels):
        before, share = list(self.epochs), 1 / self.loss.steps_per_epoch / len(labels)
        for y in labels:
            self.epochs[y] += share
        elapsed = sum(self.epochs)
        for c in range(self.classes):
            mine = [x for x, y in zip(embeddings, labels, strict=True) if y == c]
            if not mine:
                continue
            new = [sum(column) / len(mine) for column in zip(*mine, strict=True)]
            new.append(sum(v * v for x in mine for v in x) / len(mine))
            decay = 2 ** (-elapsed / self.loss.half_life_epochs)
            part = 2 ** (-elapsed * (self.epochs[c] - before[c]) / self.epochs[c] / self.loss.half_life_epochs)
            w = (1 - part) / (1 - decay)
            old = self.averages[c] or new
            self.averages[c] = [o + w * (n - o) for o, n in zip(old, new, strict=True)]

    def objective(self, embeddings, weight, labels):
        loss, known = self.loss, [average for average in self.averages if average]
        roots = [average[-1] ** (1 / 3) if average else None for average in self.averages]
        mean = sum(root for root in roots if root is not None) / len(known)
        spread = sum(average[-1] - sum(v * v for v in average[:-1]) for average in known) / len(known)
        bias, total = loss.bias.tolist(), 0.0
        for place, (x, y) in enumerate(zip(embeddings, labels, strict=True)):
            g = loss.temperature * max(0.1, 1.0 if roots[y] is None else roots[y] / mean)
            z = [(sum(w * v for w, v in zip(row, x, strict=True)) + b) / g for row, b in zip(weight, bias, strict=True)]
            total += math.log(sum(math.exp(value - z[y]) for value in z))
            others = [o for i, o in enumerate(embeddings) if i != place and labels[i] == y]
            distances = [sum((a - b) ** 2 for a, b in zip(x, other, strict=True)) for other in others]
            within = sum(math.exp((distance - 2 * spread) / self.dim) for distance in distances)
            total += loss.representation_weight * math.log(1 + within)
        return total / len(labels)


LOOPS = {
    "mr2": MR2,
    "cosface": CosFace,
    "adacos": AdaCos,
    "curricularface": CurricularFace,
    "elasticface": ElasticArc,
    "elasticface_cos": ElasticCos,
    "kappaface": KappaFace,
    "adaloss_quantile": Quantile,
    "adaloss_relative": Relative,
    "adaloss_relative_permuted": RelativePermuted,
    "adaloss_trapezoid": Trapezoid,
}
