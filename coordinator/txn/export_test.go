package txn

// ExhaustEpochs gives an id its last epoch.
var ExhaustEpochs = exhaustEpochs
