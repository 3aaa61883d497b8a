"""Forecast tomorrow of the S&P 500: where it closes, and how far it swings.

The data are the days of the index from 1999 to 2018, as the package `arch` ships them (its licence
is the University of Illinois/NCSA's; the prices were collected by Yahoo Finance).

The two questions have different answers. What the price will do is nearly unforecastable: whatever
the past tells is in today's price already, so *persistence*, "tomorrow closes where today closed",
is the forecast to beat, and a curve that seems to follow the price is often the price of the day
before. How much the price will move is another matter, because calm and nervous days come in
spells. The day's range is log(highest price / lowest price); its logarithm is forecast, as ranges
are positive and a few are very large. It is compared with

* persistence: tomorrow's range is today's;
* HAR, the heterogeneous autoregression (Corsi 2009): a linear regression on the log ranges of the
  last day, week and month, which is hard to beat.

An LSTM reads the last sixty days and gives both. The evaluation rolls from year to year: the model
learns from all days before a year, forecasts each day of it from the days before, then learns anew
with that year added. Run it with ``python examples/forecast_stock.py``.
"""

from __future__ import annotations

from _program import Figures, Program, packages

with packages():
    import numpy as np
    import torch
    from arch.data import sp500
    from numpy.lib.stride_tricks import sliding_window_view
    from sklearn.linear_model import LinearRegression
    from sklearn.metrics import root_mean_squared_error
    from sklearn.model_selection import TimeSeriesSplit
    from sklearn.preprocessing import StandardScaler
    from torch import Tensor, nn

WINDOW, YEAR, YEARS = 60, 252, 10  # in days of trading
BATCH = 128
RETURN, RANGE = 0, 1  # places of what is forecast among the features


class Forecaster(nn.Module):
    """From the days of a window to the return and the log range of the day after it.

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
        self.head = nn.Linear(hidden, 2)

    def forward(self, days: Tensor) -> Tensor:
        """Forecasts (B, 2) for days (B, WINDOW, features)."""
        _, (hidden, _) = self.rnn(days)
        return self.head(hidden[-1])


def features_of(prices) -> np.ndarray:
    """The numbers that describe each day but the first, (days, 4).

    These are the return from close to close, the logarithm of the day's range (log high - log low),
    the return over night, and the change of the volume; all but the range are differences of
    logarithms.
    """
    logs = {name: np.log(prices[name].to_numpy(float)) for name in prices}
    swing = np.log(logs["High"] - logs["Low"])
    night = logs["Open"][1:] - logs["Close"][:-1]
    return np.stack([np.diff(logs["Close"]), swing[1:], night, np.diff(logs["Volume"])], axis=1)


def windows_of(days: np.ndarray) -> np.ndarray:
    """All runs of WINDOW days but the last, which no day follows: (runs, WINDOW, features)."""
    return sliding_window_view(days, WINDOW, axis=0).swapaxes(1, 2)[:-1]


def train(model: Forecaster, windows: Tensor, targets: Tensor, epochs: int) -> None:
    """Fit the model to the days (B, 2) that followed the windows."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.1)
    for _ in range(epochs):
        for batch in torch.randperm(len(windows)).split(BATCH):
            loss = nn.functional.mse_loss(model(windows[batch]), targets[batch])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()


def autoregression(days: np.ndarray, learn: np.ndarray, test: np.ndarray) -> np.ndarray:
    """The log ranges after the windows `test` by HAR."""
    swing = windows_of(days)[:, :, RANGE]
    inputs = np.stack([swing[:, -past:].mean(axis=1) for past in (1, 5, 22)], axis=1)
    fit = LinearRegression().fit(inputs[learn], days[WINDOW:, RANGE][learn])
    return fit.predict(inputs[test])


def forecast_year(
    days: np.ndarray, learn: np.ndarray, test: np.ndarray, layers, epochs: int
) -> dict[str, np.ndarray]:
    """The forecasts for the days after the windows `test`, learned from the windows `learn`.

    Those of the LSTM are (days, 2), returns and log ranges; those of the others log ranges.
    """
    scaler = StandardScaler().fit(days[: WINDOW + learn[-1] + 1])
    scaled = scaler.transform(days).astype(np.float32)
    windows = torch.from_numpy(windows_of(scaled).copy())
    followed = torch.from_numpy(scaled[WINDOW:, :2])

    model = Forecaster(layers, days.shape[1], hidden=32)
    train(model, windows[learn], followed[learn], epochs)
    with torch.no_grad():
        forecast = model(windows[test]).numpy()
    return {
        "LSTM": forecast * scaler.scale_[:2] + scaler.mean_[:2],
        "persistence": days[WINDOW - 1 + test, RANGE],
        "HAR": autoregression(days, learn, test),
    }


def draw(axes, dates, swings: dict[str, np.ndarray]) -> None:
    """The measured log ranges as points, and the forecasts as lines."""
    for who, swing in swings.items():
        axes.plot(dates, 100 * np.exp(swing), "k." if who == "measured" else "-", label=who)
    ticks = [0.3, 0.5, 1, 2, 4]
    axes.set(yscale="log", ylabel="daily range, about in %")
    axes.set_yticks(ticks, map(str, ticks))
    axes.minorticks_off()
    axes.set_title("The last year: each day, and what was forecast for it the day before")
    axes.legend()


def main(argv: list[str] | None = None) -> Figures:
    """Forecast year by year, and compare with the baselines."""
    program = Program(__doc__, on_torch=True)
    program.start(argv)
    epochs = program.pick(full=6, quick=3)

    prices = sp500.load()
    days = features_of(prices)
    years = TimeSeriesSplit(n_splits=program.pick(full=YEARS, quick=2), test_size=YEAR)
    splits = list(years.split(days[WINDOW:]))  # numbers of windows: each has a day after it
    parts = [
        forecast_year(days, learn, test, program.layers, epochs)
        for learn, test in program.progress(splits, "years")
    ]
    forecasts = {who: np.concatenate([part[who] for part in parts]) for who in parts[0]}
    test = np.concatenate([test for _, test in splits])
    returns, swing = days[WINDOW + test, :2].T
    swings = {**forecasts, "LSTM": forecasts["LSTM"][:, RANGE]}

    with program.picture("forecast_stock.png", width=10) as figure:
        dates = prices.index[1 + WINDOW + test[-YEAR:]]  # features start with the second day
        curves = {"measured": swing, "LSTM": swings["LSTM"], "HAR": swings["HAR"]}
        draw(figure.subplots(), dates, {who: each[-YEAR:] for who, each in curves.items()})

    forecast = forecasts["LSTM"][:, RETURN]
    moved = returns != 0
    right = (forecast > 0) == (returns > 0)
    return program.report(
        {
            "closing price, RMSE of the return, %": {
                "LSTM": 100 * root_mean_squared_error(returns, forecast),
                "persistence": 100 * root_mean_squared_error(returns, np.zeros_like(returns)),
            },
            "days whose direction is right, %": {
                "LSTM": 100 * float(right[moved].mean()),
                "always up": 100 * float((returns > 0)[moved].mean()),
            },
            "daily range, RMSE of its logarithm": {
                who: root_mean_squared_error(swing, forecast) for who, forecast in swings.items()
            },
        }
    )


if __name__ == "__main__":
    main()
