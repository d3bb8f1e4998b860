"""The PyPI package stomp.py, unmodified, over TCP and WebSocket, in each version of STOMP that it speaks."""

import queue
import threading
import unittest

import stomp

from broker import Broker

# Longer than anything takes on a busy machine.
PATIENCE = 60


class Listener(stomp.ConnectionListener):
    """What came, for whoever waits for the next."""

    def __init__(self):
        self.connected = None
        self.messages = queue.Queue()
        self.errors = queue.Queue()
        self.receipts = queue.Queue()
        self.gone = threading.Event()
        self.n_beats = 0

    def on_connected(self, frame):
        self.connected = frame

    def on_message(self, frame):
        self.messages.put(frame)

    def on_error(self, frame):
        self.errors.put(frame)

    def on_receipt(self, frame):
        self.receipts.put(frame.headers["receipt-id"])

    def on_heartbeat(self):
        self.n_beats += 1

    def on_disconnected(self):
        self.gone.set()

    def next(self):
        return self.messages.get(timeout=PATIENCE)


class Client:
    """A connection of one version, and its listener."""

    def __init__(self, make, port, **options):
        self.conn = make([("127.0.0.1", port)], reconnect_attempts_max=1, **options)
        self.seen = Listener()
        self.conn.set_listener("test", self.seen)
        self.conn.connect("guest", "guest", wait=True)
        self._n_receipts = 0

    def sure(self, act, *args, **kwargs):
        """Does something whose frame asks for a receipt, and waits for that."""
        self._n_receipts += 1
        receipt = f"r{self._n_receipts}"
        headers = {**kwargs.pop("headers", {}), "receipt": receipt}
        act(*args, headers=headers, **kwargs)
        try:
            assert self.seen.receipts.get(timeout=PATIENCE) == receipt
        except queue.Empty:
            raise AssertionError([error.body for error in self.seen.errors.queue]) from None

    def ack(self, frame, subscription, act=None):
        act = act or self.conn.ack
        if self.conn.version == "1.2":
            act(frame.headers["ack"])
        elif self.conn.version == "1.1":
            act(frame.headers["message-id"], subscription)
        else:
            act(frame.headers["message-id"])

    def close(self):
        self.conn.disconnect()


class Connection10(stomp.Connection10):
    version = "1.0"


class Connection11(stomp.Connection11):
    version = "1.1"


class Connection12(stomp.Connection12):
    version = "1.2"


class WebSocket12(stomp.WSStompConnection):
    version = "1.2"


class StompPyTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.broker = Broker()
        cls.addClassCleanup(cls.broker.stop)

    def open(self, make, **options):
        port = self.broker.stomp
        if make is WebSocket12:
            port, options = self.broker.http, {**options, "ws_path": "/stomp"}
        client = Client(make, port, **options)
        self.addCleanup(client.close)
        return client

    def each_version(self, *makes):
        for make in makes or (Connection10, Connection11, Connection12, WebSocket12):
            yield make, make.__name__.lower()

    def test_publishes_and_reads_with_receipts(self):
        for make, name in self.each_version():
            client = self.open(make)
            if make is not WebSocket12:
                self.assertEqual(client.seen.connected.headers["version"], make.version)
            client.sure(client.conn.subscribe, f"/topic/{name}", id="a")
            client.sure(client.conn.send, f"/topic/{name}", "봉수: hi", content_type="text/plain", headers={"mood": "calm"})
            message = client.seen.next()
            self.assertEqual(message.body, "봉수: hi")
            self.assertEqual(message.headers["mood"], "calm")
            self.assertEqual(message.headers["offset"], "1")

    def test_header_values_of_any_kind_come_back(self):
        for make, name in self.each_version(Connection11, Connection12):
            client = self.open(make)
            client.sure(client.conn.subscribe, f"/topic/h{name}", id="a")
            value = "a:b\\c \\n \\\\ 봉수"
            client.sure(client.conn.send, f"/topic/h{name}", "x", headers={"special": value})
            self.assertEqual(client.seen.next().headers["special"], value)

    def test_what_is_not_acknowledged_comes_again(self):
        for make, name in self.each_version(Connection10, Connection11, Connection12):
            client = self.open(make)
            for body in "abc":
                client.sure(client.conn.send, f"/queue/{name}", body)
            first = self.open(make)
            first.conn.subscribe(f"/queue/{name}", id="1", ack="client")
            messages = [first.seen.next() for _ in range(3)]
            self.assertEqual([message.body for message in messages], ["a", "b", "c"])
            # The mode is cumulative: this settles the first two.
            first.ack(messages[1], "1")
            first.sure(first.conn.send, f"/topic/after-{name}", "x")
            first.close()
            second = self.open(make)
            second.conn.subscribe(f"/queue/{name}", id="1", ack="client")
            again = second.seen.next()
            self.assertEqual((again.body, again.headers["redelivered"]), ("c", "true"))
            second.ack(again, "1")

    def test_a_message_is_given_back_by_nack(self):
        for make, name in self.each_version(Connection11, Connection12):
            client = self.open(make)
            client.conn.subscribe(f"/queue/n{name}", id="1", ack="client-individual")
            client.sure(client.conn.send, f"/queue/n{name}", "again")
            client.ack(client.seen.next(), "1", client.conn.nack)
            again = client.seen.next()
            self.assertEqual((again.body, again.headers["redelivered"]), ("again", "true"))
            client.ack(again, "1")

    def test_a_transaction_is_carried_out_or_not(self):
        for make, name in self.each_version(Connection10, Connection11, Connection12):
            client = self.open(make)
            client.sure(client.conn.subscribe, f"/topic/t{name}", id="a")
            aborted = client.conn.begin()
            client.conn.send(f"/topic/t{name}", "never", transaction=aborted)
            client.conn.abort(aborted)
            kept = client.conn.begin()
            client.conn.send(f"/topic/t{name}", "one", transaction=kept)
            client.conn.send(f"/topic/t{name}", "two", transaction=kept)
            client.sure(client.conn.send, f"/topic/t{name}", "before")
            client.conn.commit(kept)
            self.assertEqual([client.seen.next().body for _ in range(3)], ["before", "one", "two"])

    def test_heart_beats_come_and_keep_the_connection(self):
        for make, _ in self.each_version(Connection11, Connection12):
            client = self.open(make, heartbeats=(1000, 1000))
            # Three are more than either side waits for.
            while client.seen.n_beats < 3:
                self.assertFalse(client.seen.gone.wait(0.1))

    def test_a_durable_subscription_waits_for_its_reader(self):
        durable = {"durable": "true"}
        for make, name in self.each_version(Connection11, Connection12):
            reader = self.open(make)
            reader.sure(reader.conn.subscribe, f"/topic/d{name}", id="mine", ack="client-individual", headers=durable)
            reader.close()
            writer = self.open(make)
            writer.sure(writer.conn.send, f"/topic/d{name}", "meanwhile")
            reader = self.open(make)
            reader.conn.subscribe(f"/topic/d{name}", id="mine", ack="client-individual", headers=durable)
            message = reader.seen.next()
            self.assertEqual(message.body, "meanwhile")
            reader.ack(message, "mine")
            reader.sure(reader.conn.unsubscribe, id="mine", headers=durable) if make is Connection12 else None

    def test_what_is_wrong_is_an_error(self):
        for make, _ in self.each_version():
            client = self.open(make)
            client.conn.send("/nowhere", "x")
            error = client.seen.errors.get(timeout=PATIENCE)
            self.assertEqual(error.headers["message"], "Unknown destination")
            self.assertTrue(client.seen.gone.wait(PATIENCE))

    def test_what_was_confirmed_is_there_after_a_kill(self):
        client = self.open(Connection12)
        for n in range(50):
            client.sure(client.conn.send, "/topic/killed", str(n))
        self.broker.kill_and_restart()
        reader = self.open(Connection12)
        reader.conn.subscribe("/topic/killed", id="a", headers={"offset": "first"})
        self.assertEqual([reader.seen.next().body for _ in range(50)], [str(n) for n in range(50)])


if __name__ == "__main__":
    unittest.main()
