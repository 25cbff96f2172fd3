"""Pictures of runs: pure functions from what runs show to plotly figures, page by page."""

from analysis.plots.confusion import build_confusion
from analysis.plots.controls import build_controls
from analysis.plots.curves import build_curves
from analysis.plots.embeddings import build_embeddings
from analysis.plots.margins import build_margins
from analysis.plots.overview import build_overview
from analysis.plots.paired import build_paired
from analysis.plots.parameters import build_parameters
from analysis.plots.picture import Page, Picture, Sheet, Table, download_name
from analysis.plots.robustness import build_robustness
from analysis.plots.search import build_search
from analysis.plots.style import GRAPH_CONFIG
from analysis.plots.trials import build_trials

__all__ = ["GRAPH_CONFIG", "PAGES", "Page", "Picture", "Sheet", "Table", "download_name"]

PAGES: tuple[Page, ...] = (
    Page("overview", "Overview", build_overview),
    Page("trials", "Trials", build_trials),
    Page("curves", "Learning curves", build_curves),
    Page("margins", "Margins", build_margins),
    Page("search", "Search", build_search),
    Page("parameters", "Hyperparameters", build_parameters),
    Page("paired", "Paired tests", build_paired),
    Page("controls", "Controls", build_controls),
    Page("robustness", "Robustness", build_robustness),
    Page("embeddings", "Embeddings", build_embeddings),
    Page("confusion", "Confusion", build_confusion),
)
