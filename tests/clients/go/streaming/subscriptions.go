package main

import (
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/stan.go"
	"github.com/nats-io/stan.go/pb"
)

// A subscription whose messages are taken one by one.
type collected struct {
	stan.Subscription
	messages chan *stan.Msg
}

func collect(sc stan.Conn, channel string, options ...stan.SubscriptionOption) collected {
	messages := make(chan *stan.Msg, 1000)
	sub, err := sc.Subscribe(channel, func(m *stan.Msg) { messages <- m }, options...)
	check(err)
	return collected{sub, messages}
}

func next(from collected) *stan.Msg { return receive("message", from.messages) }

// Takes and acknowledges messages up to this sequence; their sequences.
func ackUpTo(from collected, last uint64) []uint64 {
	var sequences []uint64
	for {
		m := next(from)
		check(m.Ack())
		sequences = append(sequences, m.Sequence)
		if m.Sequence == last {
			return sequences
		}
	}
}

// Publishes numbers as text; number n has sequence n.
func numbers(sc stan.Conn, channel string, first, last int) {
	for n := first; n <= last; n++ {
		check(sc.Publish(channel, []byte(strconv.Itoa(n))))
	}
}

func positions() fields {
	sc, channel := connect(), *prefix+".x"
	numbers(sc, channel, 1, 10)
	time.Sleep(50 * time.Millisecond)
	middle := time.Now()
	// The library tells how long ago that was; what the request needs shifts it.
	time.Sleep(5 * time.Second)
	numbers(sc, channel, 11, 20)
	subs := map[string]collected{
		"new":      collect(sc, channel),
		"first":    collect(sc, channel, stan.DeliverAllAvailable()),
		"raw":      collect(sc, channel, stan.StartAt(pb.StartPosition_First)),
		"sequence": collect(sc, channel, stan.StartAtSequence(11)),
		"last":     collect(sc, channel, stan.StartWithLastReceived()),
		"time":     collect(sc, channel, stan.StartAtTime(middle)),
		"delta":    collect(sc, channel, stan.StartAtTimeDelta(time.Since(middle))),
	}
	numbers(sc, channel, 21, 21)
	found := fields{}
	for name, sub := range subs {
		first := next(sub)
		expectWellFormed(first, channel)
		count := 1
		for m := first; m.Sequence != 21; count++ {
			m = next(sub)
			expectWellFormed(m, channel)
		}
		found[name] = []uint64{first.Sequence, uint64(count)}
	}
	check(sc.Close())
	return found
}

func expectWellFormed(m *stan.Msg, channel string) {
	age := time.Since(time.Unix(0, m.Timestamp))
	if string(m.Data) != strconv.FormatUint(m.Sequence, 10) || m.Subject != channel || m.Redelivered ||
		m.RedeliveryCount != 0 || age < -time.Minute || age > time.Minute {
		fail("%v of %v ago", m, age)
	}
}

func durable() fields {
	sc, channel := connect(), *prefix+".x"
	numbers(sc, channel, 1, 10)
	// With one message in flight the next one shows that the last acknowledgement was seen.
	options := []stan.SubscriptionOption{stan.DurableName("d"), stan.DeliverAllAvailable(), stan.SetManualAckMode(),
		stan.MaxInflight(1), stan.AckWait(20 * time.Second)}
	sub := collect(sc, channel, options...)
	ackUpTo(sub, 4)
	next(sub)
	check(sub.Close())

	sub = collect(sc, channel, options...)
	numbers(sc, channel, 11, 11)
	first := next(sub)
	check(first.Ack())
	resumed := append([]uint64{first.Sequence}, ackUpTo(sub, 10)...)
	_, err := sc.Subscribe(channel, func(*stan.Msg) {}, options...)
	duplicate := refusal("a second subscription to a durable", err)
	next(sub)
	check(sc.Close())

	sc = connect()
	sub = collect(sc, channel, options...)
	afterClose := next(sub).Sequence
	check(sub.Unsubscribe())
	sub = collect(sc, channel, options...)
	afterUnsubscribe := next(sub).Sequence
	check(sub.Unsubscribe())
	check(sc.Close())
	return fields{"resumed": resumed, "redelivered": first.Redelivered, "duplicate": duplicate,
		"after_close": afterClose, "after_unsubscribe": afterUnsubscribe}
}

func queue() fields {
	sc, channel := connect(), *prefix+".x"
	seen, taken := make(chan uint64, 1000), map[string]*int{"a": new(int), "b": new(int)}
	for _, count := range taken {
		_, err := sc.QueueSubscribe(channel, "workers", func(m *stan.Msg) {
			*count++
			seen <- m.Sequence
		}, stan.MaxInflight(5))
		check(err)
	}
	numbers(sc, channel, 1, 100)
	shared := map[uint64]bool{}
	for range 100 {
		shared[receive("job", seen)] = true
	}

	member := func(durableName string) (collected, error) {
		messages := make(chan *stan.Msg, 1000)
		sub, err := sc.QueueSubscribe(channel, "lasting", func(m *stan.Msg) { messages <- m },
			stan.DurableName(durableName), stan.DeliverAllAvailable(), stan.SetManualAckMode(), stan.MaxInflight(1))
		return collected{sub, messages}, err
	}
	first, err := member("d")
	check(err)
	ackUpTo(first, 4)
	next(first)
	check(first.Close())
	second, err := member("d")
	check(err)
	resumed := next(second).Sequence
	check(second.Unsubscribe())
	third, err := member("d")
	check(err)
	afterUnsubscribe := next(third).Sequence
	_, err = member("d:e")
	refused := refusal("a durable name with a colon", err)
	check(sc.Close())
	return fields{"shared": len(shared), "both": *taken["a"] > 0 && *taken["b"] > 0, "resumed": resumed,
		"after_unsubscribe": afterUnsubscribe, "refused": refused}
}

func redelivery() fields {
	sc, channel := connect(), *prefix+".x"
	numbers(sc, channel, 1, 6)
	// Acknowledged by the library: with one message in flight nothing would come after the first otherwise.
	auto := collect(sc, channel, stan.DeliverAllAvailable(), stan.MaxInflight(1))
	sub := collect(sc, channel, stan.DeliverAllAvailable(), stan.AckWait(time.Second), stan.MaxInflight(3),
		stan.SetManualAckMode())
	var first, again, then, all []uint64
	for range 3 {
		first = append(first, next(sub).Sequence)
	}
	redelivered := true
	// On a slow machine one may come a third time before another comes a second time.
	for len(again) < 3 {
		m := next(sub)
		check(m.Ack())
		if !slices.Contains(again, m.Sequence) {
			redelivered = redelivered && m.Redelivered && m.RedeliveryCount == 1
			again = append(again, m.Sequence)
		}
	}
	for len(then) < 3 {
		m := next(sub)
		check(m.Ack())
		if !m.Redelivered {
			then = append(then, m.Sequence)
		}
	}
	for range 6 {
		all = append(all, next(auto).Sequence)
	}
	check(sc.Close())
	slices.Sort(again)
	return fields{"first": first, "again": again, "redelivered": redelivered, "then": then, "auto": all}
}

func leave() fields {
	sc, channel := connect(), *prefix+".x"
	first, second, third := collect(sc, channel), collect(sc, channel), collect(sc, channel)
	expectLocalFigures(first)
	numbers(sc, channel, 1, 1)
	for _, sub := range []collected{first, second, third} {
		next(sub)
	}
	if delivered, err := first.Delivered(); err != nil || delivered != 1 {
		fail("%v delivered: %v", delivered, err)
	}
	check(first.Unsubscribe())
	check(second.Close())
	twice := refusal("a second unsubscription", first.Unsubscribe())
	if first.IsValid() {
		fail("a subscription that has ended is valid")
	}
	numbers(sc, channel, 2, 2)
	next(third)
	after := len(first.messages) + len(second.messages)
	invalid := channel + ".*"
	_, err := sc.Subscribe(invalid, func(*stan.Msg) {})
	refused := refusal("a wildcard", err)
	check(sc.Close())
	return fields{"after": after, "twice": twice, "refused": refused}
}

// What the library tells without asking the server.
func expectLocalFigures(sub collected) {
	check(sub.SetPendingLimits(1000, 1<<20))
	messages, bytes, err := sub.PendingLimits()
	check(err)
	dropped, err := sub.Dropped()
	check(err)
	check(sub.ClearMaxPending())
	_, _, err = sub.MaxPending()
	check(err)
	pending, _, err := sub.Pending()
	check(err)
	if messages != 1000 || bytes != 1<<20 || dropped != 0 || pending != 0 || !sub.IsValid() {
		fail("limits %d and %d, dropped %d, pending %d", messages, bytes, dropped, pending)
	}
}
