// A small application on stan.go that uses every option of the library: one scenario of streaming a
// run. See tests/clients/README.md for the command line, the scenarios and the output.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/stan.go"
)

var (
	scenario = flag.String("scenario", "", "what to do")
	url      = flag.String("url", "", "NATS URL, nats://host:port or tls://host:port")
	ca       = flag.String("ca", "", "CA file; TLS is used when it is given")
	cert     = flag.String("cert", "", "client certificate file")
	key      = flag.String("key", "", "client key file")
	cluster  = flag.String("cluster", "", "streaming cluster ID")
	prefix   = flag.String("prefix", "", "client ID, and first part of channels")
)

// For whatever must come, on a busy machine.
const patience = 60 * time.Second

// What a scenario found out.
type fields map[string]any

func report(event string, found fields) {
	if found == nil {
		found = fields{}
	}
	found["event"] = event
	line, err := json.Marshal(found)
	check(err)
	fmt.Println(string(line))
}

func check(err error) {
	if err != nil {
		fail("%v", err)
	}
}

func fail(format string, values ...any) {
	line, _ := json.Marshal(fields{"event": "error", "error": fmt.Sprintf(format, values...)})
	fmt.Println(string(line))
	os.Exit(1)
}

func main() {
	flag.Parse()
	scenarios := map[string]func() fields{
		"connect": connectAndClose, "publish": publish, "positions": positions, "durable": durable,
		"queue": queue, "redelivery": redelivery, "leave": leave, "lost": lost,
	}
	run, known := scenarios[*scenario]
	if !known {
		fail("unknown scenario %q", *scenario)
	}
	report("done", run())
}

// Over TLS the application makes the NATS connection itself; otherwise the library does, by URL.
func natsOptions() []stan.Option {
	names := []nats.Option{nats.Name(*prefix), nats.Timeout(patience), nats.MaxReconnects(-1)}
	if *ca == "" {
		return []stan.Option{stan.NatsURL(*url), stan.NatsOptions(names...)}
	}
	nc, err := nats.Connect(*url, append(names, nats.RootCAs(*ca), nats.ClientCert(*cert, *key))...)
	check(err)
	return []stan.Option{stan.NatsConn(nc)}
}

// Connects with every option that there is.
func try(clusterID, clientID string, more ...stan.Option) (stan.Conn, error) {
	options := append(natsOptions(),
		stan.ConnectWait(patience),
		stan.PubAckWait(patience),
		stan.MaxPubAcksInflight(8),
		stan.Pings(2, 10),
		stan.AllowCloseRetry(true),
		stan.SetConnectionLostHandler(func(_ stan.Conn, err error) { fail("lost: %v", err) }))
	return stan.Connect(clusterID, clientID, append(options, more...)...)
}

func connect(more ...stan.Option) stan.Conn {
	sc, err := try(*cluster, *prefix, more...)
	check(err)
	return sc
}

// The text of an error that must be there.
func refusal(what string, err error) string {
	if err == nil {
		fail("%s was not refused", what)
	}
	return err.Error()
}

func connectAndClose() fields {
	sc := connect()
	_, err := try(*cluster, *prefix)
	duplicate := refusal("a second client of the same ID", err)
	_, err = try(*cluster, "no.dots")
	invalid := refusal("an invalid client ID", err)
	_, err = try("no-such-cluster", *prefix, stan.ConnectWait(300*time.Millisecond))
	elsewhere := refusal("another cluster", err)
	check(sc.Publish(*prefix+".x", nil))
	check(sc.Close())
	closed := refusal("publishing after the end", sc.Publish(*prefix+".x", nil))
	// The ID is free again.
	check(connect().Close())
	return fields{"duplicate": duplicate, "invalid": invalid, "elsewhere": elsewhere, "closed": closed}
}

func publish() fields {
	sc := connect()
	channel := *prefix + ".x"
	for range 10 {
		check(sc.Publish(channel, []byte("waits")))
	}
	guids, acks := map[string]bool{}, make(chan string, 200)
	for range 200 {
		guid, err := sc.PublishAsync(channel, []byte("does not wait"), func(guid string, err error) {
			check(err)
			acks <- guid
		})
		check(err)
		guids[guid] = true
	}
	acked := 0
	for range 200 {
		if guid := receive("an acknowledgement", acks); guids[guid] {
			acked++
			delete(guids, guid)
		}
	}
	refused := refusal("a wildcard", sc.Publish(*prefix+".*", nil))
	last := next(collect(sc, channel, stan.StartWithLastReceived()))
	check(sc.Close())
	return fields{"acked": acked, "refused": refused, "last": last.Sequence}
}

// Freezes of the server are the test's: after `ready` nothing is answered any more.
func lost() fields {
	reason := make(chan error, 1)
	sc := connect(stan.Pings(1, 3), stan.PubAckWait(500*time.Millisecond),
		stan.SetConnectionLostHandler(func(_ stan.Conn, err error) { reason <- err }))
	report("ready", nil)
	var err error
	for began := time.Now(); err == nil; time.Sleep(20 * time.Millisecond) {
		if time.Since(began) > patience {
			fail("everything is acknowledged")
		}
		err = sc.Publish(*prefix+".x", nil)
	}
	if !errors.Is(err, stan.ErrTimeout) {
		fail("no acknowledgement in time is told as %v", err)
	}
	return fields{"timeout": err.Error(), "lost": receive("the handler's call", reason).Error()}
}

func receive[T any](what string, from <-chan T) T {
	select {
	case value := <-from:
		return value
	case <-time.After(patience):
		fail("no %s within %v", what, patience)
		panic("it has ended")
	}
}
