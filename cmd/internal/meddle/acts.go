package meddle

// acts is everything that a meddler does, and how often.
var acts = []act{
	{name: "topic life", weight: 2, run: (*meddler).topicLife},
	{name: "topic under writers", weight: 3, run: (*meddler).topicUnderWriters},
	{name: "topic under readers", weight: 2, run: (*meddler).topicUnderReaders},
	{name: "many ends", weight: 5, run: (*meddler).manyEnds},
	{name: "takeover", weight: 2, run: (*meddler).takeover},
	{name: "requests", weight: 1, run: (*meddler).requests},
	{name: "timeout", weight: 1, run: (*meddler).timeout},
	{name: "forgotten outcomes", weight: 1, run: (*meddler).forgottenOutcomes},
	{name: "empty ends", weight: 1, run: (*meddler).emptyEnds},
	{name: "stray", weight: 1, run: (*meddler).stray},
	{name: "too much covered", weight: 1, run: (*meddler).tooMuchCovered},
	{name: "sequences", weight: 3, run: (*meddler).sequences},
	{name: "first sequences", weight: 1, run: (*meddler).firstSequences},
	{name: "epochs without transactions", weight: 1, run: (*meddler).epochsWithoutTransactions},
	{name: "batches", weight: 1, run: (*meddler).batches},
	{name: "many partitions", weight: 1, run: (*meddler).manyPartitions},
	{name: "group life", weight: 3, run: (*meddler).groupLife},
	{name: "subscriber life", weight: 3, run: (*meddler).subscriberLife},
	{name: "members by force", weight: 1, run: (*meddler).membersByForce},
	{name: "listings", weight: 2, run: (*meddler).listings},
	{name: "descriptions", weight: 2, run: (*meddler).descriptions},
	{name: "fences", weight: 1, run: (*meddler).fences},
	{name: "deletions", weight: 3, run: (*meddler).deletions},
	{name: "wrong to coordinator", weight: 2, run: (*meddler).wrongToCoordinator},
	{name: "wrong to shard", weight: 2, run: (*meddler).wrongToShard},
	{name: "wrong from node", weight: 1, run: (*meddler).wrongFromNode},
	{name: "strange enlistments", weight: 1, run: (*meddler).strangeEnlistments},
	{name: "wrong markers", weight: 1, run: (*meddler).wrongMarkers},
	{name: "false markers", weight: 1, run: (*meddler).falseMarkers},
	{name: "settings", weight: 1, run: (*meddler).settings},
	{name: "more partitions", weight: 1, run: (*meddler).morePartitions},
	{name: "shards go", weight: 1, run: (*meddler).shardsGo},
	{name: "positions by force", weight: 1, run: (*meddler).positionsByForce},
	{name: "nonsense", weight: 1, run: (*meddler).nonsense},
	{name: "unlikely commands", weight: 1, run: (*meddler).unlikelyCommands},
	{name: "retention", weight: 1, run: (*meddler).retention},
	{name: "shard commands", weight: 1, run: (*meddler).shardCommands},
	{name: "discarded", weight: 1, run: (*meddler).discarded},
	{name: "renames", weight: 1, run: (*meddler).renames},
	{name: "unattended", weight: 1, run: (*meddler).unattended},
	{name: "configurations", weight: 1, alone: true, run: (*meddler).configurations},
	{name: "many aborted", weight: 1, alone: true, run: (*meddler).manyAborted},
	{name: "forgetting", weight: 1, run: (*meddler).forgetting},
	{name: "unfinished", weight: 1, run: (*meddler).unfinished},
	{name: "many places", weight: 1, run: (*meddler).manyPlaces},
	{name: "idle", weight: 1, run: (*meddler).idle},
	{name: "keys", weight: 1, alone: true, run: (*meddler).keys},
	{name: "phantoms", weight: 1, alone: true, run: (*meddler).phantoms},
	{name: "many ids", weight: 2, alone: true, run: (*meddler).manyIDs},
	{name: "many open", weight: 2, alone: true, run: (*meddler).manyOpen},
	{name: "many producers", weight: 2, alone: true, run: (*meddler).manyProducers},
	{name: "operator by SDK", weight: 1, run: (*meddler).operatorBySDK},
	{name: "transactions by SDK", weight: 1, run: (*meddler).transactionsBySDK},
	{name: "group by SDK", weight: 1, run: (*meddler).groupBySDK},
}

// Acts returns the names of all acts.
func Acts() (names []string) {
	for _, a := range acts {
		names = append(names, a.name)
	}
	return names
}
