"""The data sets known by name, and the error that all loading code raises."""

from collections.abc import Iterable
from dataclasses import dataclass

from trainables.errors import UserError

Shape = tuple[int, int, int]  # (H, W, C)
_NAMED = 5  # classes in a line


class DataError(UserError):
    """Data that is missing or broken: the message names the file and says what to do."""


@dataclass(frozen=True)
class DatasetSpec:
    """What is known of a data set without its images.

    Args:
        name: The registry name, or the folder's name.
        image_shape: (H, W, C) of every image.
        num_classes: Number of classes; labels are 0 .. num_classes - 1.
        class_names: One name a class, in the order of the labels.
        mean: Per channel, of the training images scaled to [0, 1].
        std: Per channel, of the training images scaled to [0, 1].
        train_size: Images in the official training set.
        test_size: Images in the official test set; 0 where only reading the test files could tell.
        horizontal_flip: Whether a mirrored image keeps its label, so that augmentation may flip.
    """

    name: str
    image_shape: Shape
    num_classes: int
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    train_size: int
    test_size: int
    horizontal_flip: bool

    def classes_missing_in(self, labels: Iterable[int]) -> str:
        """Return such as "2 of the 10 classes (cat, dog) have", to be followed by what; "" where all are there."""
        present = set(map(int, labels))
        missing = [name for label, name in enumerate(self.class_names) if label not in present]
        if not missing:
            return ""
        more = ", ..." if len(missing) > _NAMED else ""
        return f"{len(missing)} of the {self.num_classes} classes ({', '.join(missing[:_NAMED])}{more}) have"


def _grey_28(
    name: str,
    class_names: tuple[str, ...],
    mean: float,
    std: float,
    *,
    sizes: tuple[int, int] = (60_000, 10_000),
    horizontal_flip: bool = False,
) -> DatasetSpec:
    return DatasetSpec(
        name=name,
        image_shape=(28, 28, 1),
        num_classes=len(class_names),
        class_names=class_names,
        mean=(mean,),
        std=(std,),
        train_size=sizes[0],
        test_size=sizes[1],
        horizontal_flip=horizontal_flip,
    )


def _rgb_32(
    name: str, class_names: tuple[str, ...], mean: tuple[float, float, float], std: tuple[float, float, float]
) -> DatasetSpec:
    return DatasetSpec(
        name=name,
        image_shape=(32, 32, 3),
        num_classes=len(class_names),
        class_names=class_names,
        mean=mean,
        std=std,
        train_size=50_000,
        test_size=10_000,
        horizontal_flip=True,
    )


_TEN_DIGITS = tuple("0123456789")
_CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_FASHION_CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
_CIFAR100_CLASSES = (
    "apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle", "bottle", "bowl", "boy",
    "bridge", "bus", "butterfly", "camel", "can", "castle", "caterpillar", "cattle", "chair", "chimpanzee",
    "clock", "cloud", "cockroach", "couch", "crab", "crocodile", "cup", "dinosaur", "dolphin", "elephant",
    "flatfish", "forest", "fox", "girl", "hamster", "house", "kangaroo", "keyboard", "lamp", "lawn_mower",
    "leopard", "lion", "lizard", "lobster", "man", "maple_tree", "motorcycle", "mountain", "mouse", "mushroom",
    "oak_tree", "orange", "orchid", "otter", "palm_tree", "pear", "pickup_truck", "pine_tree", "plain", "plate",
    "poppy", "porcupine", "possum", "rabbit", "raccoon", "ray", "road", "rocket", "rose", "sea", "seal", "shark",
    "shrew", "skunk", "skyscraper", "snail", "snake", "spider", "squirrel", "streetcar", "sunflower",
    "sweet_pepper", "table", "tank", "telephone", "television", "tiger", "tractor", "train", "trout", "tulip",
    "turtle", "wardrobe", "whale", "willow_tree", "wolf", "woman", "worm",
)  # fmt: skip

# Channel statistics of mnist, fashion_mnist, cifar10 and cifar100 are the published ones.
DATASETS: dict[str, DatasetSpec] = {
    "mnist": _grey_28("mnist", _TEN_DIGITS, 0.1307, 0.3081),
    "cifar10": _rgb_32("cifar10", _CIFAR10_CLASSES, (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "fashion_mnist": _grey_28("fashion_mnist", _FASHION_CLASSES, 0.2860, 0.3530, horizontal_flip=True),
    "cifar100": _rgb_32("cifar100", _CIFAR100_CLASSES, (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "digits": _grey_28("digits", _TEN_DIGITS, 0.3056, 0.3248, sizes=(1_500, 297)),
}
