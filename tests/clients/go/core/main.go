// A small application on nats.go: one scenario of core NATS a run. See tests/clients/README.md for the
// command line, the scenarios and the output.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

var (
	scenario = flag.String("scenario", "", "what to do")
	url      = flag.String("url", "", "NATS URL")
	ca       = flag.String("ca", "", "CA file")
	cert     = flag.String("cert", "", "client certificate file")
	key      = flag.String("key", "", "client key file")
	user     = flag.String("user", "", "user")
	password = flag.String("password", "", "password")
	token    = flag.String("token", "", "token")
	seed     = flag.String("seed", "", "file with an nkey seed")
	prefix   = flag.String("prefix", "", "first token of every subject")
)

// For an answer, on a busy machine.
const patience = 20 * time.Second

// Messages that are under way when a connection is drained.
const drained = 200

var output sync.Mutex

func report(event string, fields map[string]any) {
	line := map[string]any{"event": event}
	for name, value := range fields {
		line[name] = value
	}
	text, _ := json.Marshal(line)
	output.Lock()
	defer output.Unlock()
	fmt.Println(string(text))
}

func check(err error) {
	if err != nil {
		report("error", map[string]any{"error": err.Error()})
		os.Exit(1)
	}
}

// How often the connection was lost, and what was said about it otherwise.
var disconnects atomic.Int64
var complaints = make(chan string, 16)
var reconnected = make(chan struct{}, 16)

func connect() *nats.Conn {
	options := []nats.Option{
		nats.Timeout(patience), nats.MaxReconnects(-1), nats.ReconnectWait(100 * time.Millisecond),
		nats.DisconnectErrHandler(func(*nats.Conn, error) { disconnects.Add(1) }),
		nats.DiscoveredServersHandler(func(*nats.Conn) { report("discovered", nil) }),
		nats.LameDuckModeHandler(func(*nats.Conn) { report("lame_duck", nil) }),
		nats.ReconnectHandler(func(*nats.Conn) {
			report("reconnected", nil)
			reconnected <- struct{}{}
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { complaints <- err.Error() }),
	}
	if *ca != "" {
		options = append(options, nats.RootCAs(*ca))
	}
	if *cert != "" {
		options = append(options, nats.ClientCert(*cert, *key))
	}
	if *user != "" {
		options = append(options, nats.UserInfo(*user, *password))
	}
	if *token != "" {
		options = append(options, nats.Token(*token))
	}
	if *seed != "" {
		option, err := nats.NkeyOptionFromSeed(*seed)
		check(err)
		options = append(options, option)
	}
	nc, err := nats.Connect(*url, options...)
	check(err)
	return nc
}

func named(subject string) string { return *prefix + "." + subject }

// Publishes to its own subscription.
func roundTrip(nc *nats.Conn, subject string) {
	sub, err := nc.SubscribeSync(subject)
	check(err)
	check(nc.Publish(subject, []byte("there and back")))
	_, err = sub.NextMsg(patience)
	check(err)
	check(sub.Unsubscribe())
}

func main() {
	flag.Parse()
	scenarios := map[string]func(*nats.Conn) map[string]any{
		"login": login, "messages": messages, "survive": survive,
		"drain": drain, "queue": queue, "permissions": permissions,
	}
	run, known := scenarios[*scenario]
	if !known {
		check(fmt.Errorf("unknown scenario %q", *scenario))
	}
	nc := connect()
	result := run(nc)
	nc.Close()
	report("done", result)
}

func login(nc *nats.Conn) map[string]any {
	roundTrip(nc, named("login"))
	return nil
}

func messages(nc *nats.Conn) map[string]any {
	sub, err := nc.SubscribeSync(named("echo"))
	check(err)
	check(nc.PublishMsg(&nats.Msg{Subject: named("echo"), Header: nats.Header{"Trace": {"a", "b: c"}, "Empty": {""}}}))
	headed, err := sub.NextMsg(patience)
	check(err)

	large := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	check(nc.Publish(named("echo"), large))
	echoed, err := sub.NextMsg(patience)
	check(err)
	tooLarge := nc.Publish(named("echo"), append(large, '!'))

	began := time.Now()
	_, err = nc.Request(named("nobody"), nil, patience)
	nobody, waited := errors.Is(err, nats.ErrNoResponders), time.Since(began)

	_, err = nc.Subscribe(named("service"), func(m *nats.Msg) { _ = m.Respond(append([]byte("hello "), m.Data...)) })
	check(err)
	answer, err := nc.Request(named("service"), []byte("go"), patience)
	check(err)
	_, empty := headed.Header["Empty"]
	return map[string]any{
		"trace": headed.Header.Values("Trace"), "empty": empty, "body": len(headed.Data),
		"large": bytes.Equal(echoed.Data, large), "too_large": errors.Is(tooLarge, nats.ErrMaxPayload),
		"no_responders": nobody, "waited_ms": waited.Milliseconds(), "answer": string(answer.Data),
	}
}

func survive(nc *nats.Conn) map[string]any {
	sub, err := nc.SubscribeSync(named("ticks"))
	check(err)
	check(nc.Publish(named("ticks"), []byte("before")))
	before, err := sub.NextMsg(patience)
	check(err)
	report("connected", nil)
	<-reconnected
	check(nc.Publish(named("ticks"), []byte("after")))
	after, err := sub.NextMsg(patience)
	check(err)
	return map[string]any{"ticks": []string{string(before.Data), string(after.Data)}, "server": nc.ConnectedUrl()}
}

func drain(worker *nats.Conn) map[string]any {
	var handled atomic.Int64
	_, err := worker.Subscribe(named("work"), func(m *nats.Msg) {
		time.Sleep(time.Millisecond)
		handled.Add(1)
		_ = m.Respond(nil)
	})
	check(err)
	check(worker.Flush())
	closed := make(chan struct{})
	worker.SetClosedHandler(func(*nats.Conn) { close(closed) })

	asker := connect()
	defer asker.Close()
	answers, err := asker.SubscribeSync(named("answers"))
	check(err)
	for range drained {
		check(asker.PublishRequest(named("work"), named("answers"), nil))
	}
	check(asker.Flush())
	check(worker.Drain())
	<-closed
	answered := 0
	for range drained {
		_, err := answers.NextMsg(patience)
		check(err)
		answered++
	}
	return map[string]any{"handled": handled.Load(), "answered": answered}
}

func queue(nc *nats.Conn) map[string]any {
	var received atomic.Int64
	_, err := nc.QueueSubscribe(named("jobs"), "workers", func(*nats.Msg) { received.Add(1) })
	check(err)
	stop, err := nc.SubscribeSync(named("stop"))
	check(err)
	check(nc.Flush())
	report("subscribed", nil)
	_, err = stop.NextMsg(patience)
	check(err)
	closed := make(chan struct{})
	nc.SetClosedHandler(func(*nats.Conn) { close(closed) })
	check(nc.Drain())
	<-closed
	return map[string]any{"received": received.Load()}
}

func permissions(nc *nats.Conn) map[string]any {
	_, err := nc.Subscribe(named("hidden"), func(*nats.Msg) {})
	check(err)
	first := <-complaints
	check(nc.Publish(named("secret"), nil))
	second := <-complaints
	roundTrip(nc, named("open"))
	return map[string]any{"complaints": []string{first, second}, "disconnects": disconnects.Load()}
}
