# The bidirectional LSTM of the well-known tutorial "How to Develop a Bidirectional LSTM For Sequence
# Classification in Python with Keras" (Jason Brownlee, Machine Learning Mastery, 2017), as a Keras user of that
# time would have typed it. Only the imports say bilstm where they said keras.

from random import random

from numpy import array, cumsum

from bilstm.layers import LSTM, Bidirectional, Dense, TimeDistributed
from bilstm.models import Sequential


# one sequence of random numbers, and a label for each: has the running sum reached its limit?
def get_sequence(n_timesteps):
    X = array([random() for _ in range(n_timesteps)])
    limit = n_timesteps / 4.0
    y = array([0 if x < limit else 1 for x in cumsum(X)])
    # one sequence of n steps with one number and one label a step
    return X.reshape(1, n_timesteps, 1), y.reshape(1, n_timesteps, 1)


n_timesteps = 10

# define the model
model = Sequential()
model.add(Bidirectional(LSTM(20, return_sequences=True), input_shape=(n_timesteps, 1)))
model.add(TimeDistributed(Dense(1, activation="sigmoid")))
model.compile(loss="binary_crossentropy", optimizer="adam", metrics=["acc"])

# train it, every time on a sequence it has never seen
for epoch in range(1000):
    X, y = get_sequence(n_timesteps)
    model.fit(X, y, epochs=1, batch_size=1, verbose=2)

# try it on another new sequence
X, y = get_sequence(n_timesteps)
yhat = model.predict_classes(X, verbose=0)
for i in range(n_timesteps):
    print("Expected:", y[0, i], "Predicted", yhat[0, i])
