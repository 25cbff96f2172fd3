"""What tests of the live page show in it: a server whose address stays, and a search whose epochs a test appends."""

import threading

from werkzeug.serving import make_server

from analysis.live import server as live
from tests.analysis.example_run import write_example_run
from tune.records import LossRecords

INTERVAL_S = 0.3


class Server:
    """Shows the page of one run after another at an address that stays, and with it what a browser keeps of it."""

    def __init__(self):
        self.port = 0
        self.start()
        self.port = self._server.port
        self.url = f"http://127.0.0.1:{self.port}"

    def show(self, *folders, interval_s=INTERVAL_S):
        self._app = live.build_app(list(folders), interval_s).server.wsgi_app

    def _answer(self, environ, start_response):
        return self._app(environ, start_response)

    def start(self):
        self._server = make_server("127.0.0.1", self.port, self._answer, threaded=True, request_handler=live._Quiet)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def stop(self):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Growing:
    """A search under way whose epochs the test appends."""

    def __init__(self, folder, losses=("arcface", "adaloss")):
        self.folder = write_example_run(folder, dataset="digits", losses=losses, seeds=0, trials=1, max_epochs=3)
        for loss in losses:
            for name in ("epochs.jsonl", "trials.jsonl"):
                (self.folder / loss / name).write_bytes(b"")

    def start(self, loss, epochs=0):
        LossRecords(self.folder / loss).event(f"{loss}-0000", "started", config={"loss": loss, "loss_args": {}})
        self.add(loss, *range(1, epochs + 1))

    def add(self, loss, *epochs):
        for epoch in epochs:
            accuracy = epoch / (epoch + 1)
            measured = {"val_accuracy": accuracy, "train_accuracy": accuracy, "val_loss": 1 / epoch}
            record = {"epoch": epoch, **measured, "train_loss": 1 / epoch, "margin_rad": 0.1, "seconds": 0.5}
            LossRecords(self.folder / loss).epoch(f"{loss}-0000", record)
