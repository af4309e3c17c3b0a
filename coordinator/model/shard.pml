/* The commands of a shard, after partition/pstate. They are steps: call them
 * inside d_step. */

/* visible.go: reads the logs of a shard up to their last stable offset, the
 * first record of an open transaction. */
#ifdef LSO_OFF_BY_ONE
#define STABLE(i) (STATE(log[i]) || ((i) % L > 0 && STATE(log[(i) - 1])))
#else
#define STABLE(i) STATE(log[i])
#endif
inline read(shard) {
	b_ = SHARD_LOG(shard);
	do
	:: b_ < SHARD_LOG_END(shard) ->
		i = b_; m_ = 0; y = 0;
		do
		:: i < b_ + L && log[i] && STABLE(i) ->
			e_ = log[i]; x = RECORD(e_);
			if
			:: STATE(e_) == 2
			:: i < b_ + readTo[b_ / L] -> if :: x == 2 -> y = y | BIT(TXN(e_)) :: else -> m_ = m_ | BIT(TXN(e_)) fi
			:: else ->
				assert(I3 && (committed & BIT(TXN(e_))) && (stated[TXN(e_)] & BIT(x)));
				assert(I1 && !(seen[x] & BIT(TXN(e_))) && (x != 2 || (seen[0] & BIT(TXN(e_)))));
				seen[x] = seen[x] | BIT(TXN(e_));
				if :: x == 2 -> y = y | BIT(TXN(e_)) :: else -> m_ = m_ | BIT(TXN(e_)) fi
			fi;
			i++
		:: else -> break
		od;
		/* The end has not moved back, and nothing that was read, or passed
		 * over, has become another. */
		assert(I8 && i - b_ >= readTo[b_ / L]);
		x = (b_ == 0 -> 0 : (b_ == (LOGS - 1) * L -> 1 : 3));
		assert(I8 && m_ == seen[x] && (b_ > 0 || y == seen[2]));
		readTo[b_ / L] = i - b_;
		b_ = b_ + L
	:: else -> break
	od
}

/* append.go: rules 1 to 7. */
inline append(rec, t) {
	s_ = SHARD(rec);
	if
	:: rec == 3 && partitionGone -> res = REFUSED
	:: GONE(s_, t) -> res = REFUSED
	:: stored[rec] & BIT(t) -> res = OK
	:: (fence[s_] & ((t) < 2 -> 1 : 2)) || NEWER_SEEN(s_, t) -> res = FENCED
	:: (endedC[s_] | endedA[s_]) & BIT(t) -> res = REFUSED
#ifndef NO_STALE_TXN
	:: FLOOR(s_, t) && !(OPEN_IN(s_) & BIT(t)) -> res = REFUSED
#endif
	:: rec == 2 && !(stored[0] & BIT(t)) -> res = REFUSED
	:: else ->
		i = LOG_OF(rec);
		do :: log[i] -> i++ :: else -> break od;
		assert(i % L < L - 1);
		log[i] = ENTRY(t, rec);
		stored[rec] = stored[rec] | BIT(t);
		res = OK;
		read(s_);
		prune()
	fi
}

/* marker.go, end: the records in `shown` become visible, the others are hidden. */
inline endTxn(shard, t, shown) {
	i = SHARD_LOG(shard);
	do
	:: i < SHARD_LOG_END(shard) ->
		e_ = log[i]; x = RECORD(e_);
		if
		:: e_ == 0 || TXN(e_) != (t)
		:: STATE(e_) == 0 && ((shown) & BIT(x)) ->
			assert(I1 && !(made[x] & BIT(t)));
			made[x] = made[x] | BIT(t);
			log[i] = e_ | VISIBLE
		:: STATE(e_) == 0 ->
			/* What a commit covers is never thrown away. */
			assert(I2 && (!(committed & BIT(t)) || !(stated[t] & BIT(x)) || (made[x] & BIT(t)) || (x == 3 && topicGone)));
			log[i] = e_ | HIDDEN
#ifdef HIDE_BY_TXN
		:: STATE(e_) == 1 && !((shown) & BIT(x)) -> log[i] = e_ - VISIBLE + HIDDEN
#endif
		:: else
		fi;
		i++
	:: else -> break
	od;
	if
	:: shard -> stored[1] = stored[1] & ~BIT(t)
	:: else ->
		stored[0] = stored[0] & ~BIT(t);
		stored[2] = stored[2] & ~BIT(t);
		stored[3] = stored[3] & ~BIT(t)
	fi
}
inline settle(shard, t) {
	if
	:: settled[shard] & FROM(t) & ID_OF(t)
	:: else -> settled[shard] = (settled[shard] & ~ID_OF(t)) | BIT(t)
	fi
}
#define HELD(shard, t) \
	(((stored[0] >> (t)) & 1) + ((stored[1] >> (t)) & 1) * 2 + ((stored[2] >> (t)) & 1) * 4 + ((stored[3] >> (t)) & 1) * 8)
#define PRESENT (partitionGone -> 7 : 15)

/* marker.go: recs is the progress that the marker states, keep the slots that
 * are not below its complete_below. */
inline marker(shard, t, commit, recs, keep) {
	if
	:: GONE(shard, t) /* ALREADY */
	:: OPEN_IN(shard) & BIT(t) ->
		assert(I5 && ((commit) -> committed : aborted) & BIT(t));
		assert(I2 && (!(commit) || !((recs) & RECORDS(shard) & PRESENT & ~HELD(shard, t)))); /* MISSING_DATA */
#ifdef COVER_EVERYTHING
		n_ = ((commit) -> 15 : 0);
#else
		n_ = ((commit) -> (recs) : 0);
#endif
		endTxn(shard, t, n_);
#ifdef MARKER_BY_PRODUCER
		j = 0;
		do
		:: j < 4 && (OPEN_IN(shard) & BIT(j)) -> endTxn(shard, j, n_); j++
		:: j < 4 -> j++
		:: else -> break
		od;
#endif
		if :: commit -> endedC[shard] = endedC[shard] | BIT(t) :: else -> endedA[shard] = endedA[shard] | BIT(t) fi
	:: (endedC[shard] | endedA[shard]) & BIT(t) ->
		assert(I5 && ((endedC[shard] >> (t)) & 1) == (commit)) /* CONFLICT */
	:: FLOOR(shard, t) /* ALREADY */
	:: else ->
		assert(I2 && (!(commit) || !((recs) & RECORDS(shard) & PRESENT))); /* MISSING_DATA */
		if :: commit -> endedC[shard] = endedC[shard] | BIT(t) :: else -> endedA[shard] = endedA[shard] | BIT(t) fi
	fi;
	if :: !GONE(shard, t) -> settle(shard, t) :: else fi;
	endedC[shard] = endedC[shard] & ((keep) | (15 & ~ID_OF(t)));
	endedA[shard] = endedA[shard] & ((keep) | (15 & ~ID_OF(t)));
	read(shard);
	prune()
}

/* enlist.go of pstate; life stands for opened_at. */
#ifdef NO_OPENED_AT
#define ACTS(shard, t, life) (OPEN_IN(shard) & BIT(t))
#elif defined(ANSWER_IS_MARKER)
#define ACTS(shard, t, life) 1
#else
#define ACTS(shard, t, life) ((OPEN_IN(shard) & BIT(t)) && (life) == LIFE(shard))
#endif
inline answer(shard, t, verdict, life, recs, keep) {
	if
	:: !ACTS(shard, t, life)
	:: verdict == DECIDED_COMMIT -> marker(shard, t, 1, recs, keep)
	:: verdict == DECIDED_ABORT -> marker(shard, t, 0, 0, keep)
	:: verdict >= STRAY ->
#ifdef ANSWER_IS_MARKER
		assert(I5 && !(endedC[shard] & BIT(t))); /* CONFLICT */
#endif
		endTxn(shard, t, 0);
		endedA[shard] = endedA[shard] | BIT(t);
		settle(shard, t);
		if :: verdict >= STRAY_FENCE -> fence[shard] = fence[shard] | 1 :: else fi;
		if :: verdict == STRAY_FENCE2 -> fence[shard] = fence[shard] | 2 :: else fi;
		read(shard);
		prune()
	:: else
	fi
}

/* gone.go: Forget, of the first producer id, leaves a tombstone, which expires. */
inline forget(shard) {
	endedC[shard] = endedC[shard] & ~FIRST_ID;
	endedA[shard] = endedA[shard] & ~FIRST_ID;
	settled[shard] = settled[shard] & ~FIRST_ID;
	fence[shard] = (reborn -> fence[shard] & 2 : 0);
#ifdef FORGET_FLOOR
	forgot[shard] = EXPIRED
#else
	forgot[shard] = TOMBSTONE
#endif
}

/* partition.go: SyncPartitions without partition 2. */
inline removePartition() {
	j = 0;
	do
	:: j < 4 ->
		if
		:: (stored[3] & BIT(j)) && !(stored[0] & BIT(j)) -> settle(0, j)
		:: else
		fi;
		j++
	:: else -> break
	od;
	j = L;
	do :: j < 2 * L -> log[j] = 0; j++ :: else -> break od;
	stored[3] = 0; readTo[1] = 0; seen[3] = 0; partitionGone = 1
}
