// A careful application on stan.go: publishes numbered messages until each is acknowledged, or reads
// them through a durable. See tests/clients/README.md for the command line and the output.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/stan.go"
)

var (
	url     = flag.String("url", "", "NATS URL, tls://host:port")
	ca      = flag.String("ca", "", "CA file")
	cert    = flag.String("cert", "", "client certificate file")
	key     = flag.String("key", "", "client key file")
	cluster = flag.String("cluster", "", "streaming cluster ID")
	client  = flag.String("client", "", "client ID")
	channel = flag.String("channel", "", "channel")
	mode    = flag.String("mode", "", "publish or subscribe")
	first   = flag.Int("first", 0, "number of the first message to publish")
	count   = flag.Int("count", 0, "messages to publish, or distinct messages to read")
	durable = flag.String("durable", "", "durable name")
)

var reconnects atomic.Int64

// How many publishes may be under way: enough to fill the broker's batches.
const window = 256

func report(fields map[string]any) {
	line, _ := json.Marshal(fields)
	fmt.Println(string(line))
}

func fail(err error) {
	report(map[string]any{"event": "error", "error": err.Error()})
	os.Exit(1)
}

func main() {
	flag.Parse()
	nc, err := nats.Connect(*url,
		nats.RootCAs(*ca), nats.ClientCert(*cert, *key),
		nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.ReconnectWait(100*time.Millisecond),
		nats.ReconnectHandler(func(*nats.Conn) {
			reconnects.Add(1)
			report(map[string]any{"event": "reconnected"})
		}))
	if err != nil {
		fail(err)
	}
	defer nc.Close()
	sc, err := stan.Connect(*cluster, *client, stan.NatsConn(nc), stan.PubAckWait(5*time.Second),
		stan.ConnectWait(10*time.Second), stan.SetConnectionLostHandler(func(_ stan.Conn, err error) { fail(err) }))
	if err != nil {
		fail(err)
	}
	report(map[string]any{"event": "connected"})
	switch *mode {
	case "publish":
		publish(sc)
	case "subscribe":
		subscribe(sc)
	default:
		fail(fmt.Errorf("unknown mode %q: publish or subscribe", *mode))
	}
}

func publish(sc stan.Conn) {
	slots := make(chan struct{}, window)
	var wait sync.WaitGroup
	var acked atomic.Int64
	for n := *first; n < *first+*count; n++ {
		slots <- struct{}{}
		wait.Add(1)
		go func(n int) {
			defer wait.Done()
			for sc.Publish(*channel, []byte(strconv.Itoa(n))) != nil {
				time.Sleep(50 * time.Millisecond)
			}
			if done := acked.Add(1); done%1000 == 0 {
				report(map[string]any{"event": "acked", "count": done})
			}
			<-slots
		}(n)
	}
	wait.Wait()
	if err := sc.Close(); err != nil {
		fail(err)
	}
	report(map[string]any{"event": "done", "acked": acked.Load(), "reconnects": reconnects.Load()})
}

func subscribe(sc stan.Conn) {
	seen := map[string]bool{}
	received, redelivered, lowest, last := 0, 0, uint64(0), uint64(0)
	whole := make(chan struct{})
	handler := func(m *stan.Msg) {
		if len(seen) >= *count {
			return // left unacknowledged: the durable hands it to whoever resumes
		}
		received++
		if m.Redelivered {
			redelivered++
		}
		if lowest == 0 || m.Sequence < lowest {
			lowest = m.Sequence
		}
		last = max(last, m.Sequence)
		if m.Ack() != nil {
			return
		}
		seen[string(m.Data)] = true
		if len(seen)%1000 == 0 {
			report(map[string]any{"event": "received", "count": len(seen)})
		}
		if len(seen) == *count {
			close(whole)
		}
	}
	sub, err := sc.Subscribe(*channel, handler, stan.DurableName(*durable), stan.DeliverAllAvailable(),
		stan.SetManualAckMode(), stan.MaxInflight(512), stan.AckWait(5*time.Second))
	if err != nil {
		fail(err)
	}
	<-whole
	if err := sub.Close(); err != nil {
		fail(err)
	}
	if err := sc.Close(); err != nil {
		fail(err)
	}
	report(map[string]any{"event": "done", "received": received, "distinct": len(seen), "redelivered": redelivered,
		"first": lowest, "last": last, "reconnects": reconnects.Load()})
}
