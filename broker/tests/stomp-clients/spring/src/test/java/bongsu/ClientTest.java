package bongsu;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import jakarta.websocket.ContainerProvider;
import jakarta.websocket.WebSocketContainer;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.springframework.messaging.converter.StringMessageConverter;
import org.springframework.messaging.simp.stomp.ReactorNettyTcpStompClient;
import org.springframework.messaging.simp.stomp.StompHeaders;
import org.springframework.messaging.simp.stomp.StompSession;
import org.springframework.messaging.simp.stomp.StompSessionHandlerAdapter;
import org.springframework.scheduling.concurrent.ThreadPoolTaskScheduler;
import org.springframework.web.socket.client.WebSocketClient;
import org.springframework.web.socket.client.standard.StandardWebSocketClient;
import org.springframework.web.socket.messaging.WebSocketStompClient;
import org.springframework.web.socket.sockjs.client.RestTemplateXhrTransport;
import org.springframework.web.socket.sockjs.client.SockJsClient;
import org.springframework.web.socket.sockjs.client.WebSocketTransport;

/** Spring's three STOMP clients, against the broker itself. */
class ClientTest {
  private static TestBroker broker;
  private static ThreadPoolTaskScheduler scheduler;

  @BeforeAll
  static void start() throws Exception {
    broker = new TestBroker();
    scheduler = new ThreadPoolTaskScheduler();
    scheduler.initialize();
  }

  @AfterAll
  static void stop() throws Exception {
    scheduler.shutdown();
    broker.close();
  }

  @Test
  void aPlainWebSocket() throws Exception {
    talk(webSocket(socket(), "ws", "/stomp"), "plain");
  }

  @Test
  void sockJsOverWebSocket() throws Exception {
    SockJsClient client = new SockJsClient(List.of(new WebSocketTransport(socket())));
    client.start();
    talk(webSocket(client, "http", "/ws"), "sockjs-websocket");
    client.stop();
  }

  @Test
  void sockJsOverStreaming() throws Exception {
    SockJsClient client = new SockJsClient(List.of(new RestTemplateXhrTransport()));
    client.start();
    talk(webSocket(client, "http", "/stomp"), "sockjs-streaming");
    client.stop();
  }

  @Test
  void tcp() throws Exception {
    ReactorNettyTcpStompClient client = new ReactorNettyTcpStompClient("127.0.0.1", broker.stomp());
    client.setMessageConverter(new StringMessageConverter());
    client.setTaskScheduler(scheduler);
    talk(Talk.await(client.connectAsync(new Failing())), "tcp");
    client.shutdown();
  }

  /** Tomcat's client takes messages of 8 KiB until it is told otherwise. */
  private static WebSocketClient socket() {
    WebSocketContainer container = ContainerProvider.getWebSocketContainer();
    container.setDefaultMaxTextMessageBufferSize(1 << 20);
    return new StandardWebSocketClient(container);
  }

  private static StompSession webSocket(WebSocketClient client, String scheme, String path) throws Exception {
    WebSocketStompClient stomp = new WebSocketStompClient(client);
    stomp.setMessageConverter(new StringMessageConverter());
    stomp.setTaskScheduler(scheduler);
    String url = scheme + "://127.0.0.1:" + broker.http() + path;
    return Talk.await(stomp.connectAsync(url, new Failing()));
  }

  /** What every client can: topics, queues, acknowledgments, receipts. */
  private static void talk(StompSession session, String name) throws Exception {
    session.setAutoReceipt(false);
    Talk.Inbox<String> topic = new Talk.Inbox<>(String.class);
    StompSession.Subscription subscription = Talk.subscribe(session, Talk.to("/topic/" + name), topic);
    Talk.send(session, "/topic/" + name, "봉수");
    Talk.Inbox.Came<String> came = topic.next();
    assertEquals("봉수", came.body());
    assertEquals("/topic/" + name, came.headers().getDestination());
    assertEquals("1", came.headers().getFirst("offset"));
    subscription.unsubscribe();

    Talk.Inbox<String> queue = new Talk.Inbox<>(String.class);
    StompHeaders wanted = Talk.to("/queue/" + name);
    wanted.setAck("client-individual");
    Talk.subscribe(session, wanted, queue);
    Talk.send(session, "/queue/" + name, "work");
    Talk.Inbox.Came<String> first = queue.next();
    assertEquals("false", first.headers().getFirst("redelivered"));
    session.acknowledge(first.headers(), false);
    Talk.Inbox.Came<String> again = queue.next();
    assertEquals("work", again.body());
    assertEquals("true", again.headers().getFirst("redelivered"));
    session.acknowledge(again.headers(), true);

    String large = "x".repeat(60_000);
    Talk.subscribe(session, Talk.to("/topic/large-" + name), topic);
    Talk.send(session, "/topic/large-" + name, large);
    assertEquals(large, topic.next().body());
    assertTrue(session.isConnected());
    session.disconnect();
  }

  /** Nothing is to go wrong. */
  private static final class Failing extends StompSessionHandlerAdapter {
    private final CompletableFuture<Throwable> failed = new CompletableFuture<>();

    @Override
    public void handleException(StompSession session, org.springframework.messaging.simp.stomp.StompCommand command,
        StompHeaders headers, byte[] payload, Throwable exception) {
      exception.printStackTrace();
      failed.complete(exception);
    }

    @Override
    public void handleFrame(StompHeaders headers, Object payload) {
      System.err.println("ERROR " + headers + " " + payload);
    }
  }
}
