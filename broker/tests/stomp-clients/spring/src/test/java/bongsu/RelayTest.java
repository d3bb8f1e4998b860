package bongsu;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.springframework.boot.builder.SpringApplicationBuilder;
import org.springframework.context.ApplicationListener;
import org.springframework.context.ConfigurableApplicationContext;
import org.springframework.messaging.converter.MappingJackson2MessageConverter;
import org.springframework.messaging.simp.broker.BrokerAvailabilityEvent;
import org.springframework.messaging.simp.stomp.StompSession;
import org.springframework.messaging.simp.stomp.StompSessionHandlerAdapter;
import org.springframework.messaging.simp.user.SimpUserRegistry;
import org.springframework.scheduling.concurrent.ThreadPoolTaskScheduler;
import org.springframework.web.socket.client.standard.StandardWebSocketClient;
import org.springframework.web.socket.messaging.WebSocketStompClient;
import org.springframework.web.socket.sockjs.client.SockJsClient;
import org.springframework.web.socket.sockjs.client.WebSocketTransport;

/** Two instances of an application whose broker relay points at the broker, and browsers that chat through either. */
class RelayTest {
  private TestBroker broker;
  private ThreadPoolTaskScheduler scheduler;
  private final List<Instance> instances = new ArrayList<>();
  private final List<StompSession> sessions = new ArrayList<>();

  /** An application, and whether its relay is connected. */
  private record Instance(ConfigurableApplicationContext context, java.util.concurrent.BlockingQueue<Boolean> availability) {
    int port() {
      return context.getEnvironment().getRequiredProperty("local.server.port", Integer.class);
    }

    /** Waits until the relay says that it is, or that it is not. */
    void await(boolean wanted) throws InterruptedException {
      for (;;) {
        Boolean is = availability.poll(60, java.util.concurrent.TimeUnit.SECONDS);
        if (is == null) throw new AssertionError("the relay did not say so in time");
        if (is == wanted) return;
      }
    }
  }

  @BeforeEach
  void start() throws Exception {
    broker = new TestBroker();
    scheduler = new ThreadPoolTaskScheduler();
    scheduler.initialize();
    for (int n = 0; n < 2; n += 1) {
      var availability = new java.util.concurrent.LinkedBlockingQueue<Boolean>();
      ApplicationListener<BrokerAvailabilityEvent> listener = event -> availability.add(event.isBrokerAvailable());
      ConfigurableApplicationContext context = new SpringApplicationBuilder(ChatApplication.class)
          .listeners(listener)
          .run("--server.port=0", "--server.address=127.0.0.1", "--broker.port=" + broker.stomp(), "--spring.main.banner-mode=off");
      Instance instance = new Instance(context, availability);
      instance.await(true);
      instances.add(instance);
    }
  }

  @AfterEach
  void stop() throws Exception {
    for (StompSession session : sessions) {
      if (session.isConnected()) session.disconnect();
    }
    for (Instance instance : instances) instance.context().close();
    scheduler.shutdown();
    broker.close();
  }

  private StompSession browser(int instance, String name) throws Exception {
    SockJsClient client = new SockJsClient(List.of(new WebSocketTransport(new StandardWebSocketClient())));
    client.start();
    WebSocketStompClient stomp = new WebSocketStompClient(client);
    stomp.setMessageConverter(new MappingJackson2MessageConverter());
    stomp.setTaskScheduler(scheduler);
    String url = "http://127.0.0.1:" + instances.get(instance).port() + "/ws?user=" + name;
    StompSession session = Talk.await(stomp.connectAsync(url, new StompSessionHandlerAdapter() {}));
    sessions.add(session);
    return session;
  }

  private static Talk.Inbox<ChatApplication.Line> read(StompSession session, String destination) throws Exception {
    Talk.Inbox<ChatApplication.Line> inbox = new Talk.Inbox<>(ChatApplication.Line.class);
    Talk.subscribe(session, Talk.to(destination), inbox);
    return inbox;
  }

  @Test
  void aRoomThroughBothInstances() throws Exception {
    StompSession kim = browser(0, "kim");
    StompSession lee = browser(1, "lee");
    Talk.Inbox<ChatApplication.Line> kims = read(kim, "/topic/public");
    Talk.Inbox<ChatApplication.Line> lees = read(lee, "/topic/public");
    kim.send("/app/chat.addUser", "");
    for (Talk.Inbox<ChatApplication.Line> inbox : List.of(kims, lees)) {
      assertEquals(new ChatApplication.Line("JOIN", "kim", ""), inbox.next().body());
    }
    for (int n = 0; n < 20; n += 1) lee.send("/app/chat.send", "line " + n);
    for (Talk.Inbox<ChatApplication.Line> inbox : List.of(kims, lees)) {
      for (int n = 0; n < 20; n += 1) assertEquals("line " + n, inbox.next().body().text());
    }
    lee.disconnect();
    assertEquals(new ChatApplication.Line("LEAVE", "lee", ""), kims.next().body());
  }

  @Test
  void usersAcrossInstances() throws Exception {
    StompSession kim = browser(0, "kim");
    StompSession lee = browser(1, "lee");
    Talk.Inbox<ChatApplication.Line> whispers = read(lee, "/user/queue/whispers");
    Talk.Inbox<ChatApplication.Line> echoes = read(kim, "/user/queue/echoes");
    kim.send("/app/chat.echo", "who am I?");
    Talk.Inbox.Came<ChatApplication.Line> echo = echoes.next();
    assertEquals("kim", echo.body().sender());
    assertEquals("/user/queue/echoes", echo.headers().getDestination());
    // The instance of the sender does not know the other's user: it asks all of them.
    kim.send("/app/chat.whisper", new ChatApplication.Whisper("lee", "psst"));
    assertEquals(new ChatApplication.Line("WHISPER", "kim", "psst"), whispers.next().body());
    // Each tells the other who is connected to it, every ten seconds.
    SimpUserRegistry users = instances.get(0).context().getBean(SimpUserRegistry.class);
    long end = System.nanoTime() + 60_000_000_000L;
    while (users.getUser("lee") == null) {
      if (System.nanoTime() > end) throw new AssertionError("the registry knows nobody of the other instance");
      Thread.sleep(50);
    }
  }

  @Test
  void theRelayComesBackAfterTheBrokerWasKilled() throws Exception {
    broker.killAndRestart();
    for (Instance instance : instances) {
      instance.await(false);
      instance.await(true);
    }
    StompSession kim = browser(0, "kim");
    Talk.Inbox<ChatApplication.Line> room = read(kim, "/topic/public");
    kim.send("/app/chat.send", "again");
    assertEquals("kim", room.next().body().sender());
  }
}
