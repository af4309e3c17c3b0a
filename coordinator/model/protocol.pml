/* The transaction protocol of oncelog: one transactional id, its coordinator, two
 * shards, an old and a new incarnation of its producer, one consumer group.
 * What is modelled and what is not, the bounds and the results: README.md.
 *
 * The coordinator and each shard are a Raft group, that is, one atomic state
 * machine; their commands are in coordinator.pml and shard.pml. Inside d_step the
 * first true guard of an if is taken: the order of guards is the order of rules.
 *
 * A call is one step: whoever has not made it yet is slow. Beyond that every
 * message may be lost, late or doubled; each such event costs one of FAULTS.
 *
 * Parameters (-D...): FAULTS (up to 4), OLD_TXNS, NEW_TXNS (up to 2), and
 *   TWO_BATCHES  a second batch in partition 0
 *   LOSE_TRACK   a client that commits although it has lost track of a send
 *   TOPIC_GONE   partition 2 (shard 0), and its deletion at any time
 *   ID_GONE      deletion or expiry of the id at any time; InitProducer then
 *                makes it anew under another producer id
 *   RESET        an administrator moves the group's offset
 *   CRASH        a producer may stop for good at any call
 *   PREPARE      a producer may prepare a transaction, and a database has the word
 *   CYCLES       without the process Check, for the search for cycles
 *   KEEP_DEAD    late messages that can have no effect are kept, and checked
 * The others make it wrong on purpose: see `variants`. */
#ifndef FAULTS
#define FAULTS 1
#endif
#ifndef OLD_TXNS
#define OLD_TXNS 2
#endif
#ifndef NEW_TXNS
#define NEW_TXNS 1
#endif

/* ---- names ------------------------------------------------------------- */

/* A transaction is a slot: 0 and 1 are numbers 1 and 2 of the old incarnation,
 * 2 and 3 those of the new one. Sets of slots are bit masks. Slots ascend as
 * (epoch, number) does; after a re-creation of the id, 2 and 3 belong to
 * another producer id. Epochs: 1 old, 3 new; 2 and 4: what they have become
 * when the id was deleted under an open transaction. */
#define NONE 4
#define BIT(x) (1 << (x))
#define FROM(t) ((15 << (t)) & 15)
#define EPOCH(t) ((t) < 2 -> 1 : 3)
#define EPOCH_OF(t) ((t) < 2 -> 3 : 12)
#define ID_OF(t) (reborn -> EPOCH_OF(t) : 15)

/* A record is 0: partition 0, sequence 0; 1: partition 1, sequence 0;
 * 2: partition 0, sequence 1; 3: partition 2, sequence 0. Partitions 0 and 2
 * are in shard 0, partition 1 in shard 1. */
#define SHARD(rec) ((rec) == 1)
#define RECORDS(shard) ((shard) -> 2 : 13)
#define SHARDS(recs) ((((recs) & 13) != 0) + 2 * (((recs) & 2) != 0))

/* Answers. */
#define OK 1
#define FENCED 2
#define CONFLICT 3
#define FORGOTTEN 4
#define UNKNOWN_ID 5
#define UNSETTLED 6
#define STALE_MEMBER 7
#define INVALID 8
#define PREPARED 10 /* PREPARED_EXISTS */
#define REFUSED 9  /* TXN_ENDED, STALE_TXN, OUT_OF_ORDER, UNKNOWN_PARTITION */
/* Verdicts on an enlistment. */
#define ACCEPTED 1
#define DECIDED_COMMIT 2
#define DECIDED_ABORT 3
#define STRAY 4
#define STRAY_FENCE 5  /* and the epoch of the old incarnation is over */
#define STRAY_FENCE2 6 /* and that of the new one, too */

#define TOMBSTONE 1
#define EXPIRED 2 /* opened_at tells before from after */

/* The properties, by the names of protocol.md section 10. Always true: they
 * are there so that a failed assertion prints its name. */
hidden byte I1 = 1, I2 = 1, I3 = 1, I4 = 1, I5 = 1, I6 = 1, I7 = 1, I8 = 1, I9 = 1, I13 = 1;

/* ---- state ------------------------------------------------------------- */

/* Coordinator: transactions. */
byte epoch;                    /* 0: no id yet */
byte openTxn = NONE, enlisted; /* the open transaction and its shards */
byte committed, aborted;       /* all decisions; what is remembered is below */
#ifdef PREPARE
byte prepared = NONE;          /* the prepared transaction: what a commit of it covers, */
byte prepRecs, prepFrom;       /* and where its input began */
#else
#define prepared NONE
#define prepRecs 0
#endif
byte pend[2];                  /* by shard: decisions it has not acknowledged */
byte window = NONE;            /* the last completed outcome: a memory of one */
byte stated[4];                /* records that the commit covers */
bool gone, reborn;             /* the first producer id is gone; there is a second one */
bool topicGone;                /* partition 2 is not in the catalogue */
/* Coordinator: the group, with one input partition. */
byte owner = NONE, generation, offset;
/* Shards. */
byte stored[4];                /* by record: open transactions that have it */
byte endedC[2], endedA[2];     /* remembered outcomes */
byte settled[2];               /* with what is open: the floor */
byte fence[2];                 /* 1: the old incarnation's epoch; 2: the new one's */
byte forgot[2];                /* what Forget left of the first producer id: TOMBSTONE, then EXPIRED */
bool partitionGone;
/* The logs of partitions 0, 2 and 1, in this order: that of partition p is from
 * LOG(p), and those of a shard lie side by side. */
#define L 7
#ifdef TOPIC_GONE
#define LOGS 3
#define LOG_OF(rec) ((rec) == 1 -> 2 * L : ((rec) == 3 -> L : 0))
#else
#define LOGS 2
#define LOG_OF(rec) ((rec) == 1 -> L : 0)
#endif
#define SHARD_LOG(shard) ((shard) -> (LOGS - 1) * L : 0)
#define SHARD_LOG_END(shard) ((shard) -> LOGS * L : (LOGS - 1) * L)
byte log[LOGS * L];            /* entries from offset 0 */
#define ENTRY(t, rec) (1 + 8 * (rec) + 32 * (t))
#define STATE(e) (((e) >> 1) & 3)
#define VISIBLE 2 /* STATE is 1 */
#define HIDDEN 4  /* STATE is 2 */
#define RECORD(e) (((e) >> 3) & 3)
#define TXN(e) (((e) >> 5) & 3)
/* A read_committed reader that is always at the last stable offset. */
byte readTo[LOGS], seen[4];
/* Ghosts. */
byte made[4];                  /* by record: transactions whose record became visible */
byte owed[4];                  /* records that a committed transaction must show */
byte got[4];                   /* acknowledged records, whatever the client counted */
byte toldNo, consumed, handed;
#ifdef PREPARE
byte promised;                 /* whose preparation was answered with OK */
byte wordC, wordA;             /* what the database has: commit, abort; one word each */
#endif
byte faults = FAULTS;
int bag[FAULTS + 1];           /* messages that are late; sorted: a multiset */
byte res;                      /* the last answer; 0 between steps */
hidden byte p_, q_, u_, a_, d_, dead_, i, j, s_, x, y, b_, e_, m_, v_, t_, c_, r_, w_, g_, f_, n_;
hidden int k_;

#define DECIDED (committed | aborted)
#define COMPLETING (pend[0] | pend[1])
#define KNOWN(t) (!gone || (reborn && (t) >= 2))
#define LOWEST(m) ((m) & 1 -> 0 : ((m) & 2 -> 1 : ((m) & 4 -> 2 : 3)))
#ifdef OUTCOME_EVICTED
#define REMEMBERED(t) (window == (t))
#else
#define REMEMBERED(t) (window == (t) || (COMPLETING & BIT(t)))
#endif
#ifdef INIT_LEAVES_OPEN
#define IS_OPEN(t) (openTxn == (t))
#else
#define IS_OPEN(t) (openTxn == (t) && EPOCH(t) == epoch)
#endif
#define USED_UP(t) \
	((DECIDED & FROM(t) & EPOCH_OF(t)) || (openTxn != NONE && openTxn > (t)) || (prepared != NONE && prepared > (t)))
#define NEVER_DECIDED(t) (!(DECIDED & FROM(t) & EPOCH_OF(t)))
#define FIRST_ID (reborn -> 3 : 15)
#define GONE(shard, t) (forgot[shard] == TOMBSTONE && (FIRST_ID & BIT(t)))
#define LIFE(shard) (forgot[shard] == EXPIRED)
#define OPEN_IN(shard) ((shard) -> stored[1] : (stored[0] | stored[3]))
#define FLOOR(shard, t) ((settled[shard] | OPEN_IN(shard)) & FROM(t) & ID_OF(t))
#define NEWER_SEEN(shard, t) ((t) < 2 && !reborn && ((settled[shard] | OPEN_IN(shard)) & 12))

/* A shard that takes part in the prepared transaction: it is told ACCEPTED. */
#ifdef PREPARED_IS_STRAY
#define KEPT(shard, t) (prepared == (t) && EPOCH(t) == epoch)
#else
#define KEPT(shard, t) (prepared == (t) && (SHARDS(prepRecs) & BIT(shard)))
#endif

#include "messages.pml"
#include "coordinator.pml"
#include "shard.pml"

/* ---- late messages arrive ------------------------------------------------- */

/* What the marker to a shard states, and what it lets the shard drop. */
#define PROGRESS(t) (topicGone -> stated[t] & 7 : stated[t])
#define KEEP FROM(LOWEST(COMPLETING))

inline deliver(b) {
	d_step {
		take(b);
		arrives();
		t_ = (k_ >> 3) & 3; c_ = (k_ >> 5) & 1; r_ = (k_ >> 6) & 15; w_ = (k_ >> 10) & 1;
		if
		:: (k_ & 7) == 1 -> w_ = (k_ >> 5) & 3; append(w_, t_)
		:: (k_ & 7) == 2 -> g_ = (k_ >> 10) & 15; f_ = (k_ >> 14) & 7; endTransaction(t_, c_, r_, g_, f_)
		:: (k_ & 7) == 3 -> w_ = t_; initProducer(w_)
		:: (k_ & 7) == 4 -> marker(w_, t_, c_, r_, 15)
		:: (k_ & 7) == 5 -> enlist(w_, t_); r_ = PROGRESS(t_); g_ = KEEP; answer(w_, t_, res, c_, r_, g_)
#ifdef PREPARE
		:: (k_ & 7) == 7 && w_ -> completePrepared(t_, c_)
		:: (k_ & 7) == 7 -> g_ = (k_ >> 11) & 7; f_ = (k_ >> 14) & 7; prepareTransaction(t_, r_, g_, f_)
#endif
		:: (k_ & 7) == 6 -> g_ = (k_ >> 11) & 7; answer(w_, t_, g_, c_, r_, 15)
		fi;
		res = 0;
		arrived()
	}
}

active proctype Network() {
end_network:
	do
	:: atomic { bag[0] != 0 -> deliver(0) }
#if FAULTS > 1
	:: atomic { bag[1] != 0 && bag[1] != bag[0] -> deliver(1) }
#endif
#if FAULTS > 2
	:: atomic { bag[2] != 0 && bag[2] != bag[1] -> deliver(2) }
#endif
#if FAULTS > 3
	:: atomic { bag[3] != 0 && bag[3] != bag[2] -> deliver(3) }
#endif
	od
}

/* ---- who acts ---------------------------------------------------------- */

#define EACH_TXN(set, var) \
	if \
	:: (set) & 1 -> var = 0 \
	:: (set) & 2 -> var = 1 \
	:: (set) & 4 -> var = 2 \
	:: (set) & 8 -> var = 3 \
	fi

/* The duties of the coordinator's leader, all of them read off the state; and
 * what an administrator may do at any time. */
proctype Coordinator() {
	byte t, s;
end_coordinator:
	do
	:: atomic { COMPLETING ->
		if :: pend[0] -> s = 0 :: pend[1] -> s = 1 fi;
		EACH_TXN(pend[s], t);
		if
		:: d_step { c_ = (committed >> t) & 1; r_ = PROGRESS(t); g_ = KEEP; marker(s, t, c_, r_, g_); acknowledge(s, t); res = 0 }
		:: OPEN_IN(s) & BIT(t) -> /* its acknowledgement is not in the log yet */
			d_step { c_ = (committed >> t) & 1; r_ = PROGRESS(t); g_ = KEEP; marker(s, t, c_, r_, g_); res = 0 }
		:: faults > 0 -> d_step { faults--; k_ = M_MARKER(s, t, ((committed >> t) & 1), PROGRESS(t)); hold() }
		fi;
		t = 0; s = 0
	}
	:: d_step { openTxn != NONE -> expire(); prune(); res = 0 }
#ifdef EXPIRE_PREPARED
	:: d_step { prepared != NONE -> x = prepared; y = SHARDS(prepRecs); decide(x, 0, y); prepared = NONE; prune() }
#endif
#ifdef EXPIRE_BLIND
	/* The leader saw it open; the command does not look again. */
	:: atomic { committed && faults > 0 -> faults--; EACH_TXN(committed, t); d_step { decide(t, 0, 0) }; t = 0 }
#endif
#ifdef ID_GONE
#ifdef GONE_TOO_EARLY
#define QUIET 1
#else
#define QUIET (!COMPLETING)
#endif
	:: d_step { faults > 0 && epoch > 0 && !gone && (openTxn != NONE || QUIET) ->
		faults--;
		if :: openTxn != NONE -> closeOpen(); epoch++ :: else fi;
		if :: QUIET -> gone = 1; window = NONE; pend[0] = 0; pend[1] = 0 :: else fi;
		prune(); res = 0
	}
#endif
#ifdef TOPIC_GONE
	:: d_step { !topicGone -> topicGone = 1; prune() }
#endif
#ifdef RESET
#ifdef NOT_HELD
	:: d_step { faults > 0 && offset < 4 -> faults--; offset++; prune() }
#else
	:: d_step { faults > 0 && offset < 4 && prepared == NONE -> faults--; offset++; prune() }
#endif
#endif
	od
}

/* The duties of a shard's leader. An enlistment that would change nothing is
 * left out: so a transaction that nobody ends is a deadlock. */
#define NEWS(shard, t) (!(IS_OPEN(t) && (enlisted & BIT(shard))) && !KEPT(shard, t))
#define ASKS(shard) \
	((OPEN_IN(shard) & 1 & -NEWS(shard, 0)) | (OPEN_IN(shard) & 2 & -NEWS(shard, 1)) | \
	 (OPEN_IN(shard) & 4 & -NEWS(shard, 2)) | (OPEN_IN(shard) & 8 & -NEWS(shard, 3)))
#ifdef ENLIST_ONCE
#define MAY_ASK(shard) (ASKS(shard) & ~asked)
#else
#define MAY_ASK(shard) ASKS(shard)
#endif
/* No marker outlives a tombstone; see README.md. */
#define OLD_MARKER(b, shard) ((bag[b] & 7) == 4 && IN(b, 10, 1) == (shard) && (FIRST_ID & BIT(IN(b, 3, 3))))
#ifdef SHORT_TOMBSTONE
#define MARKER_UNDER_WAY(shard) 0
#elif FAULTS == 1
#define MARKER_UNDER_WAY(shard) (OLD_MARKER(0, shard))
#elif FAULTS == 2
#define MARKER_UNDER_WAY(shard) (OLD_MARKER(0, shard) || OLD_MARKER(1, shard))
#elif FAULTS == 3
#define MARKER_UNDER_WAY(shard) (OLD_MARKER(0, shard) || OLD_MARKER(1, shard) || OLD_MARKER(2, shard))
#else
#define MARKER_UNDER_WAY(shard) (OLD_MARKER(0, shard) || OLD_MARKER(1, shard) || OLD_MARKER(2, shard) || OLD_MARKER(3, shard))
#endif
proctype Shard(byte s) {
	byte t;
#ifdef ENLIST_ONCE
	byte asked;
#endif
end_shard:
	do
	:: atomic { MAY_ASK(s) ->
		EACH_TXN(MAY_ASK(s), t);
		if
		:: d_step { enlist(s, t); r_ = PROGRESS(t); g_ = KEEP; answer(s, t, res, LIFE(s), r_, g_); res = 0 }
		:: faults > 0 -> d_step { faults--; k_ = M_ENLIST(s, t); hold() }
		:: faults > 0 -> d_step {
			faults--; enlist(s, t); v_ = res;
			if
			:: v_ != ACCEPTED -> k_ = M_ANSWER(s, t, v_, LIFE(s), (v_ == DECIDED_COMMIT -> PROGRESS(t) : 0)); hold()
			:: else
			fi;
			res = 0 }
#ifdef ENLIST_ONCE
		:: faults > 0 -> faults-- /* lost */
#endif
		fi;
#ifdef ENLIST_ONCE
		asked = asked | BIT(t);
#endif
		t = 0
	}
#ifdef ID_GONE
	:: d_step { gone && !forgot[s] && !(OPEN_IN(s) & FIRST_ID) -> forget(s); prune() }
	:: d_step { forgot[s] == TOMBSTONE && !MARKER_UNDER_WAY(s) -> forgot[s] = EXPIRED; prune() }
#endif
#ifdef TOPIC_GONE
	:: d_step { s == 0 && topicGone && !partitionGone -> removePartition(); prune(); res = 0 }
#endif
	od
}

/* One incarnation of the producer. It may be slow at any call (a zombie). With
 * CRASH it may also stop for good; nothing but I11 can tell the two apart. */
#ifdef CRASH
#define MAY_CRASH if :: goto stop :: skip fi
#else
#define MAY_CRASH skip
#endif
#ifdef LOSE_TRACK
#define ACKNOWLEDGED(rec) got[t] = got[t] | BIT(rec);
#else
#define ACKNOWLEDGED(rec)
#endif
#define SEND(rec, again) \
	if \
	:: doomed \
	:: else -> \
		if \
		:: d_step { append(rec, t) }; \
			if \
			:: res == OK -> res = 0; ACKNOWLEDGED(rec) count = count | BIT(rec) \
			:: res == FENCED -> res = 0; toldNo = toldNo | BIT(t); goto stop \
			:: else -> res = 0; doomed = 1 \
			fi \
		:: faults > 0 -> d_step { faults--; append(rec, t); res = 0 }; if :: goto again :: doomed = 1 fi \
		:: faults > 0 -> d_step { faults--; k_ = M_APPEND(rec, t); hold() }; if :: goto again :: doomed = 1 fi \
		fi \
	fi

/* The application's word about t, and what it does with it. The database keeps one
 * word: whoever comes first writes it, the new incarnation an abort if there is none
 * yet, so that the old one finds it when it would write. */
#define COMPLETE_CALL(t, again) \
	if \
	:: d_step { c_ = (wordC >> (t)) & 1; completePrepared(t, c_) } \
	:: faults > 0 -> d_step { faults--; c_ = (wordC >> (t)) & 1; completePrepared(t, c_); res = 0 }; goto again \
	:: faults > 0 -> d_step { faults--; k_ = M_COMPLETE(t, ((wordC >> (t)) & 1)); hold() }; goto again \
	fi; \
	d_step { \
		assert(I13 && (res == OK || res == FORGOTTEN)); \
		assert(I13 && (DECIDED & BIT(t)) && ((committed >> (t)) & 1) == ((wordC >> (t)) & 1)); \
		res = 0 \
	}; \
	if /* somebody is mistaken about the word */ \
	:: faults > 0 -> d_step { \
		faults--; c_ = 1 - ((wordC >> (t)) & 1); completePrepared(t, c_); \
		assert(I13 && res != OK); res = 0 } \
	:: skip \
	fi

proctype Producer(byte me; byte txns) {
	byte t, n, count, gen, from;
	bool doomed, commit, left = 1;
takeover:
	atomic { (me == 0 || epoch > 0) ->
		if
		:: d_step { initProducer(me) }
		:: faults > 0 -> d_step { faults--; initProducer(me); res = 0 }; goto takeover
		:: faults > 0 -> d_step { faults--; k_ = M_INIT(me); hold() }; goto takeover
		fi;
		if :: res == OK -> res = 0 :: else -> res = 0; goto stop fi
	}
#ifdef PREPARE
kept:
	atomic {
		if
		:: prepared != NONE && me == 1 ->
			t = prepared;
			d_step { if :: (wordC | wordA) & BIT(t) :: else -> wordA = wordA | BIT(t) fi };
			goto completeKept
		:: else -> goto begin
		fi
	}
completeKept:
	atomic { COMPLETE_CALL(t, completeKept); t = 0 }
#endif
begin:
	atomic {
		MAY_CRASH;
		if
		:: n == txns -> goto stop
		:: n < txns && left ->
			if :: owner != me -> d_step { generation++; owner = me; prune() } :: else fi;
			gen = generation; from = offset; left = 0
		:: n < txns && !left
		fi;
		t = 2 * me + n; n++; count = 0; doomed = 0; commit = 0;
		goto first
	}
send0:
	atomic {
		skip;
first:
		SEND(0, send0)
	}
#ifdef TWO_BATCHES
send2:
	atomic { SEND(2, send2) }
#endif
#ifdef TOPIC_GONE
send3:
	atomic { if :: goto send1 :: skip fi; SEND(3, send3) }
#endif
send1:
	atomic { MAY_CRASH; SEND(1, send1) }
choose:
	atomic {
		MAY_CRASH;
		if
#ifdef LOSE_TRACK
		:: commit = 1
		:: count & 2 -> commit = 1; count = count & ~2
		:: count & 4 -> commit = 1; count = count & ~4
#else
		:: !doomed -> commit = 1
#endif
		:: commit = 0
		:: doomed -> goto begin /* its abort is not confirmed; the next one closes it */
		fi;
#ifdef PREPARE
		if :: commit -> goto prepare :: skip fi;
#endif
		doomed = 0;
		goto call
	}
#ifdef PREPARE
prepare:
	atomic {
		if
		:: d_step { prepareTransaction(t, count, gen, from) }
		:: faults > 0 -> d_step { faults--; prepareTransaction(t, count, gen, from); res = 0 }; goto prepare
		:: faults > 0 -> d_step { faults--; k_ = M_PREPARE(t, count, gen, from); hold() }; goto prepare
		fi;
		if
		:: res == OK ->
			res = 0;
			d_step { promised = promised | BIT(t) };
			if :: me == 0 && NEW_TXNS > 0 -> goto stop :: skip fi /* it crashes: the new one finds it */
		:: res == FENCED -> res = 0; toldNo = toldNo | BIT(t); goto stop
		:: res == CONFLICT -> /* it timed out, or the new one found it without a word */
			assert(I13 && !(committed & BIT(t)));
			toldNo = toldNo | BIT(t);
			res = 0; count = 0; commit = 0; doomed = 0;
			if :: n == txns -> goto stop :: else -> goto begin fi
		:: res == UNSETTLED || res == STALE_MEMBER -> left = (res == STALE_MEMBER); res = 0; commit = 0; goto finish
		:: res == FORGOTTEN -> res = 0; goto stop
		fi
	}
record:
	atomic {
		if
		:: (wordC | wordA) & BIT(t) /* the new one was quicker */
		:: !((wordC | wordA) & BIT(t)) -> wordC = wordC | BIT(t)
		:: !((wordC | wordA) & BIT(t)) -> wordA = wordA | BIT(t)
		fi
	}
complete:
	atomic {
		COMPLETE_CALL(t, complete);
		if :: committed & BIT(t) -> from++ :: else fi;
		count = 0; commit = 0; doomed = 0;
		if :: n == txns -> goto stop :: else -> goto begin fi
	}
#endif
finish:
	atomic {
		MAY_CRASH;
call:
		if
		:: d_step { endTransaction(t, commit, count, gen, from) }
		:: faults > 0 -> d_step { faults--; endTransaction(t, commit, count, gen, from); res = 0 }; goto finish
		:: faults > 0 -> d_step { faults--; k_ = M_END(t, commit, count, gen, from); hold() }; goto finish
		fi;
		if
		:: (res == OK && commit) || (res == CONFLICT && !commit) ->
			assert(I13 && (committed & BIT(t)));
			from++
		:: (res == OK && !commit) || (res == CONFLICT && commit) || res == FENCED ->
			assert(I13 && !(committed & BIT(t)));
			toldNo = toldNo | BIT(t);
			if :: res == FENCED -> res = 0; goto stop :: else fi
		:: res == UNSETTLED || res == INVALID -> res = 0; commit = 0; goto finish
		:: res == STALE_MEMBER -> res = 0; commit = 0; left = 1; goto finish
		:: res == FORGOTTEN || res == UNKNOWN_ID -> res = 0; goto stop
		fi;
		res = 0; count = 0; commit = 0;
		if :: n == txns -> goto stop :: else -> goto begin fi
	}
stop:
	atomic { t = 0; n = 0; count = 0; gen = 0; from = 0; doomed = 0; commit = 0; left = 0 }
}

/* I11: this state is reached, or the run ends in an invalid end state. What is
 * still late then is lost. I2, I4: all of a commit is seen, nothing else is. */
#define SHOWN(t) (((seen[0] >> t) & 1) + ((seen[1] >> t) & 1) * 2 + ((seen[2] >> t) & 1) * 4 + ((seen[3] >> t) & 1) * 8)
#define LASTING (topicGone -> 7 : 15)
#define COMPLETE(t) \
	assert(I4 && (SHOWN(t) & LASTING) == ((committed & BIT(t)) -> stated[t] & LASTING : 0)); \
	assert(I2 && (!(committed & BIT(t)) || !(owed[t] & LASTING & ~SHOWN(t))))
#ifdef CYCLES
#define CHECK
#else
#define CHECK run Check()
proctype Check() {
	do
	:: d_step {
		openTxn == NONE && prepared == NONE && !COMPLETING && !OPEN_IN(0) && !OPEN_IN(1) && topicGone == partitionGone ->
		COMPLETE(0); COMPLETE(1); COMPLETE(2); COMPLETE(3); res = 0
	}
	od
}
#endif

init {
	atomic {
		run Coordinator(); run Shard(0); run Shard(1);
		run Producer(0, OLD_TXNS); run Producer(1, NEW_TXNS);
		CHECK
	}
}
