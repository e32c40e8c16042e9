"""Language modelling: which token comes next? A GPT-style Transformer that learns it, and writes on.

Data: batches of token ids and of the ids that follow them, int64 (batch, context) each, as the data modules in
`language_data.py` give them; the data module also has the tokenizer, which travels in every checkpoint.
Metrics: cross-entropy in nats a token, `train_loss` and `val_loss`, and `val_bpc`, bits a character, which compares
models with different tokens. With characters as tokens, `val_loss` is nats a character.
After each validation the model writes a sample, into `samples/step_N.txt` in the run directory and to the loggers
(TensorBoard's tab "Text"); after the fit `plots/curves.png` is there too.

What to expect is in the configs, `text/stdlib_gpt` and `text/shakespeare_gpt`.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

import lightkit as lk
from lightkit.errors import CheckpointError, ConfigError, DataError
from recipes.plots import Curves, should_publish
from recipes.text.language_network import GPT
from recipes.text.language_tokens import Tokenizer, tokenizer_from_state
from recipes.text.lines import without_mark

_CHECKPOINT_KEY = "tokenizer"


class LanguageModel(lk.LightModule):
    """Train a GPT-style Transformer with AdamW; warm-up, then a cosine, over the whole fit.

    The network is built when the number of tokens is known: from the data in `setup`, or from a checkpoint.

    Args:
        layers: Transformer blocks.
        heads: attention heads in each; they divide `width`.
        width: size of a place's vector.
        context: places that the model sees; at least the data's.
        dropout: share dropped in training, of embeddings, attention weights and outputs.
        tie_weights: one matrix for the token embedding and the last layer (Press, Wolf 2017).
        positions: "rotary" turns queries and keys by their place (Su et al. 2021), "learned" adds a vector for each.
        lr: peak of the learning rate.
        min_lr_fraction: where the cosine ends, as a share of `lr`.
        warmup_steps: optimizer steps of linear rise to `lr`; at most a tenth of the fit is used.
        weight_decay: AdamW's decoupled weight decay, on matrices only (Loshchilov, Hutter 2019).
        betas: AdamW's two means.
        fused: one kernel for the whole update; faster, the last bits differ from the plain one's.
        sample_tokens: tokens written after each validation; 0 for no samples.
        sample_prompt: what a sample begins with.
        temperature: below 1 samples keep to the likely, above 1 they stray.
        top_k: draw from the so many likeliest tokens only; None: from all.

    Raises:
        ConfigError: a width that the heads do not divide, a schedule for a fit without an end.
        DataError: windows longer than `context`, another tokenizer than the weights were trained with.
    """

    raw_input = "text"

    def __init__(
        self,
        layers: int = 4,
        heads: int = 4,
        width: int = 192,
        context: int = 128,
        dropout: float = 0.0,
        tie_weights: bool = True,
        positions: Literal["rotary", "learned"] = "rotary",
        lr: float = 1e-3,
        min_lr_fraction: float = 0.1,
        warmup_steps: int = 100,
        weight_decay: float = 0.1,
        betas: tuple[float, float] = (0.9, 0.99),
        fused: bool = True,
        sample_tokens: int = 200,
        sample_prompt: str = "\n",
        temperature: float = 0.8,
        top_k: int | None = None,
    ) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise ConfigError(f"LanguageModel(width={width}, heads={heads}): the heads must divide the width")
        if not sample_prompt:
            raise ConfigError("LanguageModel(sample_prompt=''): expected at least one character, such as '\\n'")
        self.save_hyperparameters()
        self.net: GPT | None = None
        self.tokenizer: Tokenizer | None = None
        self.chars_per_token = 1.0

    # ---------------------------------------------------------------- the network and its tokens

    def setup(self, stage: str) -> None:
        """Take the tokenizer from the data, or compare it with the one that the weights belong to."""
        data = self.trainer.datamodule
        tokenizer: Tokenizer | None = getattr(data, "text_tokenizer", None)
        if tokenizer is None:
            raise DataError(
                "LanguageModel: the data module has no `text_tokenizer`; use recipes.text.language_data, or set it"
            )
        length = getattr(data, "context", 0)
        if length > self.hparams.context:
            raise DataError(
                f"LanguageModel(context={self.hparams.context}): the data's windows are {length} tokens long; "
                f"set model.context to {length}, or data.context to {self.hparams.context}"
            )
        self.chars_per_token = getattr(data, "chars_per_token", 1.0)
        if self.tokenizer is None:
            self._build(tokenizer)
        else:
            self._compare(tokenizer.state(), self.tokenizer.state())

    def _build(self, tokenizer: Tokenizer) -> None:
        names = ("context", "layers", "heads", "width", "dropout", "tie_weights", "positions")
        self.tokenizer = tokenizer
        length = min(16, self.hparams.context)
        self.example_input_array = torch.arange(2 * length).view(2, length) % tokenizer.vocab_size
        self.net = GPT(tokenizer.vocab_size, **{name: self.hparams[name] for name in names})

    @staticmethod
    def _compare(of_data: dict[str, Any], of_weights: dict[str, Any]) -> None:
        if of_data == of_weights:
            return
        sizes = [tokenizer_from_state(state).vocab_size for state in (of_data, of_weights)]
        raise DataError(
            f"LanguageModel: the data's tokenizer ({of_data['kind']}, {sizes[0]} tokens) is not the one that the "
            f"weights were trained with ({of_weights['kind']}, {sizes[1]} tokens): ids would mean other text; use the "
            "text and data.tokenizer of that training"
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put the tokenizer beside the weights."""
        checkpoint[_CHECKPOINT_KEY] = self._known_tokenizer().state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Build tokenizer and network of the checkpoint, or compare where there is a network already."""
        state = checkpoint.get(_CHECKPOINT_KEY)
        if state is None:
            raise CheckpointError("LanguageModel: this checkpoint holds no tokenizer; it is not a LanguageModel's")
        if self.tokenizer is None:
            self._build(tokenizer_from_state(state))
        else:
            self._compare(self.tokenizer.state(), dict(state))

    def _known_tokenizer(self) -> Tokenizer:
        if self.tokenizer is None:
            raise ConfigError(
                "LanguageModel: no tokenizer yet; fit it first, or use LanguageModel.load_from_checkpoint(path)"
            )
        return self.tokenizer

    # ---------------------------------------------------------------- training

    def configure_callbacks(self) -> list[lk.Callback]:
        """Return the callbacks that draw the curves and write the samples."""
        curves = Curves({"loss": ("train_loss", "val_loss")})
        return [curves, Samples()] if self.hparams.sample_tokens else [curves]

    def configure_optimizers(self) -> Any:
        """Return AdamW, weight decay on matrices only, and its schedule, stepped every batch."""
        hp = self.hparams
        total = self.trainer.estimated_stepping_batches
        if total == float("inf"):
            raise ConfigError(
                "LanguageModel: the cosine has no end to fall towards; set trainer.max_epochs or max_steps"
            )
        groups = [
            {"params": [p for p in self.parameters() if p.ndim >= 2], "weight_decay": hp.weight_decay},
            {"params": [p for p in self.parameters() if p.ndim < 2], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=hp.lr, betas=tuple(hp.betas), fused=hp.fused)
        warmup = min(hp.warmup_steps, int(total) // 10)
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: warmup_cosine(step, warmup, int(total), hp.min_lr_fraction)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def forward(self, tokens: Tensor) -> Tensor:
        """Map int64 ids (batch, length) to logits of the next token (batch, length, tokens)."""
        if self.net is None:
            self._known_tokenizer()
        logits: Tensor = self.net(tokens)  # type: ignore[misc]
        return logits

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the mean cross-entropy of the batch's tokens, nats, a 0-dim tensor."""
        loss = self._loss(batch)
        self.log("train_loss", loss, on_step=True, on_epoch=True, prog_bar=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Log loss and bits a character of the validation text."""
        self._evaluate(batch, "val")

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Log loss and bits a character of the test text."""
        self._evaluate(batch, "test")

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return how much each token surprised the model, nats, float (batch, context)."""
        tokens, targets = batch
        return F.cross_entropy(self(tokens).transpose(1, 2), targets, reduction="none")

    def _loss(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        tokens, targets = batch
        return F.cross_entropy(self(tokens).flatten(0, 1), targets.flatten())

    def _evaluate(self, batch: tuple[Tensor, Tensor], stage: str) -> None:
        loss = self._loss(batch)
        self.log(f"{stage}_loss", loss, prog_bar=True, sync_dist=True)
        if stage == "val":
            self.log("hp_metric", loss, sync_dist=True)
        self.log(f"{stage}_bpc", loss / math.log(2) / self.chars_per_token, sync_dist=True)

    # ---------------------------------------------------------------- use

    @torch.no_grad()
    def generate(
        self,
        prompt: str,
        tokens: int = 200,
        temperature: float = 0.8,
        top_k: int | None = None,
        seed: int | None = None,
    ) -> str:
        """Return the prompt and `tokens` tokens that the model writes after it.

        Args:
            prompt: at least one character; the model sees its last `context` tokens.
            tokens: how many to write.
            temperature: 0 always takes the likeliest; 1 draws as the model says; above 1 flatter.
            top_k: draw from the so many likeliest only.
            seed: the same seed writes the same text, and torch's own generator stays as it is; None draws from that.

        Raises:
            ConfigError: an empty prompt, a negative temperature, a `top_k` below 1, or no weights yet.
        """
        if temperature < 0 or (top_k is not None and top_k < 1):
            raise ConfigError(
                f"generate(temperature={temperature}, top_k={top_k}): expected at least 0, and at least 1"
            )
        tokenizer, ids = self._known_tokenizer(), self._encode(prompt)
        generator = None if seed is None else torch.Generator(self.device).manual_seed(seed)
        was_training = self.training
        self.eval()
        for _ in range(tokens):
            logits = self(ids[:, -self.hparams.context :])[0, -1].float()
            logits[tokenizer.never_sampled] = -math.inf
            if temperature == 0:
                drawn = logits.argmax().view(1)
            else:
                if top_k is not None and top_k < len(logits):
                    logits[logits < logits.topk(top_k).values[-1]] = -math.inf
                drawn = torch.multinomial((logits / temperature).softmax(dim=0), 1, generator=generator)
            ids = torch.cat([ids, drawn.view(1, 1)], dim=1)
        self.train(was_training)
        written = ids[0, -tokens:].tolist() if tokens else []
        return prompt + tokenizer.decode(written)

    @torch.no_grad()
    def predict_raw(self, raw: str) -> list[tuple[str, float]]:
        """Return the ten likeliest next tokens after the text `raw` and their probabilities, likeliest first.

        Raises:
            ConfigError: an empty text, or no weights yet.
        """
        tokenizer, ids = self._known_tokenizer(), self._encode(without_mark(raw))
        was_training = self.training
        self.eval()
        probabilities = self(ids[:, -self.hparams.context :])[0, -1].float().softmax(dim=0)
        self.train(was_training)
        best = probabilities.topk(min(10, len(probabilities)))
        return [(tokenizer.decode([i]), p) for i, p in zip(best.indices.tolist(), best.values.tolist(), strict=True)]

    def _encode(self, text: str) -> Tensor:
        """Return ids (1, tokens) on the module's device."""
        ids = self._known_tokenizer().encode(text)
        if not len(ids):
            raise ConfigError("LanguageModel: an empty text has no next token; give at least one character")
        return ids.unsqueeze(0).to(self.device)


class Samples(lk.Callback):
    """Has the model write after each validation: `samples/step_N.txt` in the run directory, text for the loggers.

    Every sample is drawn with the same seed, so that they differ by what was learned; the last one is printed.
    """

    def __init__(self) -> None:
        self.last = ""

    def on_validation_epoch_end(self, trainer: lk.Trainer, pl_module: lk.LightModule) -> None:
        """Write, save and log a sample."""
        if trainer.sanity_checking or trainer.state.fn != "fit" or not trainer.is_global_zero:
            return
        assert isinstance(pl_module, LanguageModel), "Samples needs a module that can write"
        hp = pl_module.hparams
        self.last = pl_module.generate(hp.sample_prompt, hp.sample_tokens, hp.temperature, hp.top_k, seed=0)
        if not should_publish(trainer):
            return
        # a file a step: what a resumed run writes again replaces what was there
        path = trainer.run_dir / "samples" / f"step_{trainer.global_step:06}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.last, encoding="utf-8")
        # indented by four, Markdown leaves the text as it is
        shown = "\n".join(f"    {line}" for line in self.last.split("\n"))
        for logger in trainer.loggers:
            if isinstance(logger, lk.loggers.Logger):  # any object with log_metrics may be one
                logger.log_text("sample", shown, step=trainer.global_step)

    def on_fit_end(self, trainer: lk.Trainer, pl_module: lk.LightModule) -> None:
        """Print the last sample."""
        if self.last and trainer.is_global_zero:
            pl_module.print(f"sample after step {trainer.global_step}:\n{self.last}\n")


def warmup_cosine(step: int, warmup_steps: int, total_steps: int, floor: float) -> float:
    """Return the factor of the learning rate at a step: a line up to 1, then half a cosine down to `floor`."""
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    done = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done))
