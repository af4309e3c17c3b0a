/* Messages that come late or twice. A late one is in the bag until it arrives, or
 * for ever: then it is lost. */

#define M_APPEND(rec, t) (1 + 8 * (t) + 32 * (rec))
#define M_END(t, c, recs, g, from) (2 + 8 * (t) + 32 * (c) + 64 * (recs) + 1024 * (g) + 16384 * (from))
#define M_INIT(who) (3 + 8 * (who))
#define M_MARKER(shard, t, c, recs) (4 + 8 * (t) + 32 * (c) + 64 * (recs) + 1024 * (shard))
#define M_ENLIST(shard, t) (5 + 8 * (t) + 32 * LIFE(shard) + 1024 * (shard))
#define M_ANSWER(shard, t, verdict, life, recs) \
	(6 + 8 * (t) + 32 * (life) + 64 * (recs) + 1024 * (shard) + 2048 * (verdict))
#define M_PREPARE(t, recs, g, from) (7 + 8 * (t) + 64 * (recs) + 2048 * (g) + 16384 * (from))
#define M_COMPLETE(t, c) (7 + 8 * (t) + 32 * (c) + 1024)
#define DEAD (1 << 20)
#define IN(b, low, mask) ((bag[b] >> (low)) & (mask))

inline take(b) {
	k_ = bag[b]; i = b;
	do :: i < FAULTS -> bag[i] = bag[i + 1]; i++ :: else -> break od;
	bag[FAULTS] = 0
}

/* A message that can have no effect any more, whatever comes, is dropped at once:
 * whether it arrives, and when, makes no difference but to the number of states.
 * With KEEP_DEAD it is kept, and must change nothing when it arrives. Some of what
 * is wrong on purpose makes the dead rise: there nothing is dropped. */
#if defined(NO_STALE_TXN) || defined(END_BY_PRODUCER) || defined(ANSWER_IS_MARKER) || defined(NO_OPENED_AT)
inline prune() { skip }
#else
/* What the coordinator says of transaction t is said for good. */
#define CLOSED(t) (!KNOWN(t) || (DECIDED & BIT(t)) || (!IS_OPEN(t) && (EPOCH(t) < epoch || USED_UP(t))))
/* What a shard remembers of t stays: it is not of the id that may be removed. */
#ifdef ID_GONE
#define STAYS(shard, t) (LIFE(shard) || !(FIRST_ID & BIT(t)))
#define INIT_IS_OVER ((handed & 2) && !reborn)
#else
#define STAYS(shard, t) 1
#define INIT_IS_OVER 1
#endif
/* Nothing of t is open in the shard, nor will be: in this life of the record. */
#define OVER(shard, t) (!(OPEN_IN(shard) & BIT(t)) && (FLOOR(shard, t) || GONE(shard, t)))
#define CANNOT_ACT(shard, t, life) (OVER(shard, t) || (life) != LIFE(shard))
#define REFUSED_FOR_GOOD(rec, t) \
	((rec) == 3 && partitionGone || \
	 STAYS(SHARD(rec), t) && ((stored[rec] & BIT(t)) || OVER(SHARD(rec), t) || \
		(fence[SHARD(rec)] & ((t) < 2 -> 1 : 2)) || NEWER_SEEN(SHARD(rec), t)))
#define PASSED(g, from) ((g) != generation || (from) < offset)

inline isDead(m) { /* sets d_ */
	q_ = ((m) >> 3) & 3; a_ = ((m) >> 5) & 1; u_ = ((m) >> 10) & 1;
	if
	:: ((m) & 7) == 1 -> u_ = ((m) >> 5) & 3; d_ = REFUSED_FOR_GOOD(u_, q_)
	:: ((m) & 7) == 2 ->
		d_ = CLOSED(q_) || (a_ && (PASSED(((m) >> 10) & 15, ((m) >> 14) & 7) || (((m) & 512) && topicGone)))
	:: ((m) & 7) == 3 && q_ == 0 -> d_ = epoch == 4 || (epoch > 0 && INIT_IS_OVER)
	:: ((m) & 7) == 3 && q_ == 1 -> d_ = (handed & 2) != 0
	:: ((m) & 7) == 4 -> d_ = STAYS(u_, q_) && OVER(u_, q_)
	:: ((m) & 7) == 5 -> d_ = CANNOT_ACT(u_, q_, a_) && (CLOSED(q_) || (IS_OPEN(q_) && (enlisted & BIT(u_))))
	:: ((m) & 7) == 6 -> d_ = CANNOT_ACT(u_, q_, a_)
#ifdef PREPARE
	:: ((m) & 7) == 7 && u_ -> d_ = (DECIDED & BIT(q_)) != 0
	:: ((m) & 7) == 7 -> d_ = prepared == q_ || CLOSED(q_)
#endif
	fi
}
inline prune() {
	p_ = 0;
	do
	:: p_ > FAULTS || bag[p_] == 0 -> break
	:: else ->
		isDead(bag[p_]);
		if
#ifdef KEEP_DEAD
		:: d_ -> bag[p_] = bag[p_] | DEAD; p_++
#else
		:: d_ -> take(p_)
#endif
		:: else -> p_++
		fi
	od;
	p_ = 0
}
#endif

inline hold() { /* k_ */
	i = 0;
	do :: bag[i] > k_ -> i++ :: else -> break od;
	j = FAULTS;
	do :: j > i -> bag[j] = bag[j - 1]; j-- :: else -> break od;
	bag[i] = k_;
	prune()
}

/* Around the arrival of the message k_. */
#ifdef KEEP_DEAD
c_code {
	/* same: notes the state, or tells whether it is what was noted, but for the bag. */
	static int same(int compare) {
		static State noted, s;
		memcpy(&s, &now, sizeof(State));
		memset(s.bag, 0, sizeof(s.bag));
		if (compare) return memcmp(&s, &noted, sizeof(State)) == 0;
		memcpy(&noted, &s, sizeof(State));
		return 1;
	}
}
inline arrives() { dead_ = k_ >= DEAD; k_ = k_ & (DEAD - 1); c_code { same(0); } }
inline arrived() { c_code { dead_ = dead_ && !same(1); }; assert(!dead_) }
#else
inline arrives() { skip }
inline arrived() { skip }
#endif
