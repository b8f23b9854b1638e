"""The workload on pfl-research (https://github.com/apple/pfl-research), as its CIFAR-10 benchmark does FedAvg.

Run by an interpreter that has pfl[pytorch]; one process, images in memory before the first round.
"""

import os
import sys

sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from lines import Rounds

rounds = Rounds()
try:
    import numpy as np
    import pfl
    import torch
    from images import draw
    from model_file import model_of
    from pfl.aggregate.simulate import SimulatedBackend
    from pfl.algorithm.base import NNAlgorithmParams
    from pfl.algorithm.federated_averaging import FederatedAveraging
    from pfl.callback.base import TrainingProcessCallback
    from pfl.data.dataset import Dataset
    from pfl.data.federated_dataset import FederatedDataset
    from pfl.data.sampling import get_user_sampler
    from pfl.hyperparam import NNTrainHyperParams
    from pfl.metrics import Metrics
    from pfl.model.pytorch import PyTorchModel
    from pfl.privacy.gaussian_mechanism import GaussianMechanism
    from pfl.privacy.privacy_mechanism import CentrallyAppliedPrivacyMechanism
except ImportError as error:
    rounds.missing(error)
    raise SystemExit(0) from None


def trainable(module):
    """The module with the two methods that PyTorchModel calls."""
    loss = torch.nn.CrossEntropyLoss()

    class Trainable(type(module)):
        def loss(self, inputs, targets, eval=False):
            self.train(not eval)
            return loss(self(inputs), targets)

        def metrics(self, inputs, targets, eval=False):
            return {}

    module.__class__ = Trainable
    return module


class Turns(TrainingProcessCallback):
    """A round when it is asked for."""

    def on_train_begin(self, *, model):
        rounds.ready(pfl=pfl.__version__, torch=torch.__version__)
        rounds.wait()
        return Metrics()

    def after_central_iteration(self, aggregate_metrics, model, *, central_iteration):
        rounds.done()
        return not rounds.wait(), Metrics()


def main(settings):
    torch.set_num_threads(settings["threads"])
    torch.manual_seed(0)
    np.random.seed(0)
    pixels, labels = draw(settings["users"], settings["images"], settings["shape"], settings["classes"])
    images, labels = torch.from_numpy(pixels), torch.from_numpy(labels)

    users = FederatedDataset(
        lambda user: Dataset(raw_data=[images[user].float().div_(128).sub_(1), labels[user]], user_id=str(user)),
        get_user_sampler("minimize_reuse", list(range(settings["users"]))),
    )
    module = trainable(model_of(settings))
    model = PyTorchModel(
        model=module,
        local_optimizer_create=torch.optim.SGD,
        central_optimizer=torch.optim.SGD(module.parameters(), lr=1.0),
    )
    mechanism = GaussianMechanism(settings["clip_norm"], settings["noise_multiplier"])
    backend = SimulatedBackend(
        training_data=users, val_data=users, postprocessors=[CentrallyAppliedPrivacyMechanism(mechanism)]
    )
    FederatedAveraging().run(
        algorithm_params=NNAlgorithmParams(
            central_num_iterations=10**9,
            evaluation_frequency=10**9,
            train_cohort_size=settings["clients"],
            val_cohort_size=0,
        ),
        backend=backend,
        model=model,
        model_train_params=NNTrainHyperParams(
            local_num_epochs=1, local_learning_rate=settings["learning_rate"], local_batch_size=settings["batch_size"]
        ),
        model_eval_params=None,
        callbacks=[Turns()],
        send_metrics_to_platform=False,
    )


main(rounds.settings)
