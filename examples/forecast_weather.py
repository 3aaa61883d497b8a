"""Forecast tomorrow's highest temperature in Seattle from the thirty days before it.

The data are 1,461 days of weather from 2012 to 2015, as `vega_datasets` ships them (observations of
the NOAA, which are in the public domain).

A forecast may use nothing that was not known in time. So the evaluation rolls: the model learns
from all days before a quarter, forecasts each day of that quarter from the days before it, then
learns anew with the quarter added, and so on for two years. Means and scales come from the days
before, too. Three baselines take the same way:

* persistence says that tomorrow will be as today, and is hard to beat a day ahead;
* climatology says the mean of all earlier days within a week of the same day of the year;
* ridge regression says how far tomorrow will be from today, from the last two days. With so few
  data, and little that earlier days could add, it is as good as the LSTM.

An LSTM reads the window; its last state gives how far tomorrow will be from today. Run it with
``python examples/forecast_weather.py``.
"""

from __future__ import annotations

from _program import Figures, Program, packages

with packages():
    import numpy as np
    import torch
    from sklearn.linear_model import RidgeCV
    from sklearn.metrics import mean_absolute_error, root_mean_squared_error
    from sklearn.model_selection import TimeSeriesSplit
    from sklearn.preprocessing import StandardScaler
    from torch import Tensor, nn
    from vega_datasets import data

WINDOW, QUARTER, QUARTERS = 30, 91, 8
BATCH = 64


class Forecaster(nn.Module):
    """From the days of a window to the change that the day after it brings.

    Parameters
    ----------
    layers : module
        Where the LSTM comes from.
    features, hidden : int
        Numbers that describe a day, and units.
    """

    def __init__(self, layers, features: int, hidden: int) -> None:
        super().__init__()
        self.rnn = layers.LSTM(features, hidden, batch_first=True)
        self.head = nn.Linear(hidden, 1)

    def forward(self, days: Tensor) -> Tensor:
        """Changes (B,) for days (B, WINDOW, features)."""
        _, (hidden, _) = self.rnn(days)
        return self.head(hidden[-1])[:, 0]


def features_of(weather) -> np.ndarray:
    """The numbers that describe each day, (days, 6): what was measured, and the season."""
    season = 2 * np.pi * weather.date.dt.dayofyear / 365.25
    measured = [weather.temp_max, weather.temp_min, weather.wind, np.log1p(weather.precipitation)]
    return np.stack([*measured, np.sin(season), np.cos(season)], axis=1).astype(np.float32)


def windows_of(features: np.ndarray, ends: np.ndarray) -> Tensor:
    """The windows that end with the days `ends`, (len(ends), WINDOW, features)."""
    return torch.from_numpy(np.stack([features[end - WINDOW + 1 : end + 1] for end in ends]))


def train(model: Forecaster, windows: Tensor, changes: Tensor, epochs: int) -> None:
    """Fit the model to the changes that followed the windows."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.1)
    for _ in range(epochs):
        for batch in torch.randperm(len(windows)).split(BATCH):
            loss = nn.functional.l1_loss(model(windows[batch]), changes[batch])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()


def climatology(weather, learn: np.ndarray, days: np.ndarray) -> np.ndarray:
    """The mean of the past days at most a week from the same day of the year."""
    of_year = weather.date.dt.dayofyear.to_numpy()
    apart = np.abs(of_year[days, None] - of_year[None, learn])
    near = np.minimum(apart, 365 - apart) <= 7
    return near @ weather.temp_max.to_numpy()[learn] / near.sum(axis=1)


def forecast_quarter(
    weather, learn: np.ndarray, test: np.ndarray, layers, epochs: int
) -> dict[str, np.ndarray]:
    """The forecasts of the LSTM and the baselines for the days `test`, from the days `learn`."""
    temperature = weather.temp_max.to_numpy(np.float32)
    features = features_of(weather)
    features = StandardScaler().fit(features[: learn[-1] + 1]).transform(features)
    changes = torch.from_numpy(np.diff(temperature, prepend=np.nan))
    scale = changes[learn].std()

    model = Forecaster(layers, features.shape[1], hidden=32)
    train(model, windows_of(features, learn - 1), changes[learn] / scale, epochs)
    with torch.no_grad():
        change = model(windows_of(features, test - 1)) * scale
    today = temperature[test - 1]

    def last_days(days: np.ndarray) -> np.ndarray:
        return np.hstack([features[days - 1], features[days - 2]])

    ridge = RidgeCV(np.logspace(-2, 4, 13)).fit(last_days(learn), changes[learn].numpy())
    return {
        "LSTM": today + change.numpy(),
        "persistence": today,
        "ridge": today + ridge.predict(last_days(test)),
        "climatology": climatology(weather, np.arange(learn[-1] + 1), test),
    }


def main(argv: list[str] | None = None) -> Figures:
    """Forecast quarter by quarter, and compare with the baselines."""
    program = Program(__doc__, on_torch=True)
    program.start(argv)
    # As many as serve the quarters before those that are forecast here; more epochs overfit.
    epochs = program.pick(full=15, quick=8)

    weather = data.seattle_weather()
    tomorrow = np.arange(WINDOW, len(weather))  # the days that have a whole window before them
    quarters = TimeSeriesSplit(n_splits=program.pick(full=QUARTERS, quick=4), test_size=QUARTER)
    splits = [(tomorrow[learn], tomorrow[test]) for learn, test in quarters.split(tomorrow)]
    parts = [
        forecast_quarter(weather, learn, test, program.layers, epochs)
        for learn, test in program.progress(splits, "quarters")
    ]
    forecasts = {who: np.concatenate([part[who] for part in parts]) for who in parts[0]}
    days = np.concatenate([test for _, test in splits])
    truth = weather.temp_max.to_numpy()[days]

    with program.picture("forecast_weather.png", width=10) as figure:
        axes, last = figure.subplots(), slice(-QUARTER, None)
        curves = {"measured": truth, **{who: forecasts[who] for who in ("LSTM", "climatology")}}
        for (who, curve), style in zip(curves.items(), ("k.", "-", "-"), strict=True):
            axes.plot(weather.date[days[last]], curve[last], style, label=who)
        axes.set(ylabel="highest temperature, °C")
        axes.set_title("The last quarter: each day, and what was forecast for it the day before")
        axes.legend()

    measures = {
        "mean absolute error, °C": mean_absolute_error,
        "root mean square error, °C": root_mean_squared_error,
    }
    return program.report(
        {
            title: {who: measure(truth, forecast) for who, forecast in forecasts.items()}
            for title, measure in measures.items()
        }
    )


if __name__ == "__main__":
    main()
