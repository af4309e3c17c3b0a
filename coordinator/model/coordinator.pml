/* The commands of the coordinator, after coordinator/txn and coordinator/group.
 * They are steps: call them inside d_step, and find the answer in res. */

/* decide.go */
inline decide(t, commit, shards) {
	assert(I5 && !(DECIDED & BIT(t)));
#ifdef PREPARE
	assert(I13 && (!(promised & BIT(t)) || (((commit) -> wordC : wordA) & BIT(t))));
#endif
	if
	:: commit ->
		assert(I6 && KNOWN(t) && (EPOCH(t) == epoch || prepared == t));
		assert(I13 && !(toldNo & BIT(t)));
		committed = committed | BIT(t)
	:: else -> aborted = aborted | BIT(t)
	fi;
	if :: (shards) & 1 -> pend[0] = pend[0] | BIT(t) :: else fi;
	if :: (shards) & 2 -> pend[1] = pend[1] | BIT(t) :: else fi;
#ifdef OUTCOME_EVICTED
	window = t;
#else
	if :: (shards) == 0 -> window = t :: else fi;
#endif
	if :: openTxn == t -> openTxn = NONE; enlisted = 0 :: else fi
}
inline closeOpen() {
	if
	:: openTxn != NONE -> x = openTxn; y = enlisted; decide(x, 0, y)
	:: else
	fi
}

/* init_producer.go. A repeated request gets the epoch it got before. */
inline initProducer(who) {
	if
	:: who == 0 && epoch == 0 -> epoch = 1; handed = 1; res = OK
	:: who == 0 && gone ->
		/* A late copy after the id is gone: the request is not remembered. */
		if :: reborn && epoch == 3 -> closeOpen(); epoch = 4 :: else fi;
		res = FENCED
	:: who == 0 -> res = (epoch == 1 -> OK : FENCED)
	:: who == 1 && (handed & 2) -> res = (epoch == 3 && KNOWN(2) -> OK : FENCED)
	:: else ->
		if
		:: gone -> reborn = 1; window = NONE
		:: else ->
#ifdef KEPT_IS_ABORTED
			if :: prepared != NONE -> x = prepared; y = SHARDS(prepRecs); decide(x, 0, y); prepared = NONE :: else fi;
#endif
#ifndef INIT_LEAVES_OPEN
			closeOpen()
#else
			skip
#endif
		fi;
		assert(I9 && epoch < 3 && !(handed & 2));
		epoch = 3; handed = handed | 2; res = OK
	fi;
	prune()
}

/* enlist.go: sets res to the verdict. */
inline enlist(shard, t) {
	if
#ifdef STALE_LEADER
	:: faults > 0 -> faults--; res = STRAY /* a deposed leader has not heard of the id */
#endif
	:: !KNOWN(t) -> res = STRAY
#ifdef TELL_ACKNOWLEDGED
	:: REMEMBERED(t) && ((SHARDS(stated[t]) | pend[0] >> t & 1 | (pend[1] >> t & 1) * 2) & BIT(shard)) ->
#else
	:: REMEMBERED(t) && (pend[shard] & BIT(t)) ->
#endif
		res = (committed & BIT(t) -> DECIDED_COMMIT : DECIDED_ABORT)
#ifdef PREPARE
	:: KEPT(shard, t) -> res = ACCEPTED
#ifndef PREPARED_IS_STRAY
	:: prepared == t -> res = STRAY
#endif
#endif
	:: EPOCH(t) < epoch && !IS_OPEN(t) -> res = (epoch == 4 -> STRAY_FENCE2 : STRAY_FENCE)
	:: IS_OPEN(t) -> enlisted = enlisted | BIT(shard); res = ACCEPTED
	:: REMEMBERED(t) || USED_UP(t) -> res = STRAY
	:: else ->
		assert(prepared == NONE); /* THROTTLED: no producer goes on before it is over */
		closeOpen(); openTxn = t; enlisted = BIT(shard); res = ACCEPTED
	fi;
	prune()
}

/* transaction.go, with group/commit.go: the commit point. `recs` are the
 * records that the client counts; from, gen: the offset it began at and the
 * generation it read under. */
#define MEMBER(t) ((t) >= 2)
#ifdef NO_GENERATION
#define STANDING(t, gen) 1
#else
#define STANDING(t, gen) (owner == MEMBER(t) && (gen) == generation)
#endif
#ifdef NO_COMPARE
#define EXPECTED(from) 1
#else
#define EXPECTED(from) ((from) == offset)
#endif
inline endTransaction(txn, commit, recs, gen, from) {
	v_ = txn;
#ifdef END_BY_PRODUCER
	if :: openTxn != NONE -> v_ = openTxn :: else fi;
#endif
	if
	:: !KNOWN(v_) -> res = UNKNOWN_ID
	:: REMEMBERED(v_) -> res = (((committed >> v_) & 1) == commit -> OK : CONFLICT)
	:: prepared != NONE && (prepared == v_ || (EPOCH(v_) == epoch && v_ > prepared)) -> res = PREPARED
#ifdef NO_FENCE
	:: !IS_OPEN(v_) && !NEVER_DECIDED(v_) -> res = FORGOTTEN
#elif defined(FENCED_LIE)
	:: !IS_OPEN(v_) && EPOCH(v_) < epoch -> res = FENCED
	:: !IS_OPEN(v_) && USED_UP(v_) -> res = FORGOTTEN
#else
	:: !IS_OPEN(v_) && EPOCH(v_) < epoch -> res = (NEVER_DECIDED(v_) -> FENCED : FORGOTTEN)
#ifndef FORGOTTEN_IS_NEW
	:: !IS_OPEN(v_) && USED_UP(v_) -> res = FORGOTTEN
#endif
#endif
	:: commit && ((recs) & 8) && topicGone -> res = INVALID
#ifndef NO_UNSETTLED
	:: commit && IS_OPEN(v_) && (enlisted & ~SHARDS(recs)) -> res = UNSETTLED
#endif
	:: commit && !(STANDING(v_, gen) && EXPECTED(from)) -> res = STALE_MEMBER
	:: else ->
		m_ = SHARDS(recs);
#ifdef LOSE_TRACK
		/* What it must show: what the client counts, and what it was told is
		 * stored by a shard that the coordinator knew of and it does not name. */
		n_ = (IS_OPEN(v_) -> enlisted & ~SHARDS(recs) : 0);
		owed[v_] = (commit -> (recs) | (got[v_] & ((n_ & 1) * 13 + (n_ & 2))) : 0);
#endif
		if
		:: IS_OPEN(v_) -> if :: !commit -> m_ = m_ | enlisted :: else fi
		:: else -> closeOpen()
		fi;
		decide(v_, commit, m_);
		if
		:: commit ->
			stated[v_] = recs;
			assert(I7 && owner == MEMBER(v_) && offset == from && !(consumed & BIT(from)));
			consumed = consumed | BIT(from); offset = from + 1
		:: else
		fi;
		res = OK;
		prune()
	fi
}

#ifdef PREPARE
/* prepare_transaction.go: what a commit takes, but the decision. */
inline prepareTransaction(t, recs, gen, from) {
	if
	:: REMEMBERED(t) -> res = CONFLICT
	:: prepared == t -> res = OK
	:: prepared != NONE && EPOCH(t) == epoch && t > prepared -> res = PREPARED
	:: !IS_OPEN(t) && EPOCH(t) < epoch -> res = (NEVER_DECIDED(t) -> FENCED : FORGOTTEN)
	:: !IS_OPEN(t) && USED_UP(t) -> res = FORGOTTEN
	:: IS_OPEN(t) && (enlisted & ~SHARDS(recs)) -> res = UNSETTLED
	:: !(STANDING(t, gen) && EXPECTED(from)) -> res = STALE_MEMBER
	:: else ->
		if :: IS_OPEN(t) -> openTxn = NONE; enlisted = 0 :: else -> closeOpen() fi;
		prepared = t; prepRecs = recs; prepFrom = from;
		res = OK;
		prune()
	fi
}

/* complete_prepared.go: in whatever epoch. */
inline completePrepared(t, commit) {
	if
#ifdef SECOND_WORD
	:: DECIDED & BIT(t) -> m_ = 0; decide(t, commit, m_); res = OK
#endif
	:: REMEMBERED(t) -> res = (((committed >> t) & 1) == commit -> OK : CONFLICT)
	:: prepared != t -> res = FORGOTTEN /* or FENCED, or it was never prepared */
	:: else ->
		m_ = SHARDS(prepRecs);
		decide(t, commit, m_);
		if
		:: commit ->
			stated[t] = prepRecs;
			assert(I7 && offset == prepFrom && !(consumed & BIT(prepFrom)));
			consumed = consumed | BIT(prepFrom); offset = prepFrom + 1
		:: else
		fi;
		prepared = NONE; prepRecs = 0; prepFrom = 0;
		res = OK;
		prune()
	fi
}
#endif

/* expire.go */
inline expire() {
	x = openTxn; y = enlisted;
	decide(x, 0, y)
}

/* markers_applied.go */
inline acknowledge(shard, t) {
	if
	:: pend[shard] & BIT(t) ->
		pend[shard] = pend[shard] & ~BIT(t);
		if :: !(COMPLETING & BIT(t)) -> window = t :: else fi
	:: else
	fi
}
